//! Dead letters in a stream and in a file, and the commands that work on them. One promise a module.

mod dlq_support;

mod are_kept_in_the_stream;
mod fall_back_to_a_file;
mod over_tls;
mod wait_for_their_stream;
