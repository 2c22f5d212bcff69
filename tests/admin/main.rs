//! The admin port: health, the page of numbers, and what its clients may do to it. One promise a module.

mod port;

mod admin_port;
mod asked_from_the_command_line;
mod doctor;
mod health;
mod metrics_are_one_table;
mod over_tls;
mod page;
mod page_for_people;
mod readiness_is_told;
mod rules_and_board;
