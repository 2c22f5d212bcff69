//! Partition ownership on a real etcd: what the edge promises the core, two owners beside each other, and the command that shows
//! them. One promise a module.

mod edge;
mod owners;
mod way;

mod a_lease_ends_by_time_alone;
mod each_change_is_seen_once;
mod owners_hand_over;
mod partitions_are_shown;
mod transactions_say_what_became_of_them;
