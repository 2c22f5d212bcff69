//! Members and the inbox in MySQL and in PostgreSQL, routes in Redis, against real servers. One promise a module.

mod inbox_support;

mod contents_save_rows;
mod inbox;
mod inbox_remembers_the_unreached;
mod inbox_rows_are_committed_once;
mod inbox_waits_out_an_outage;
mod large_lists_are_read_by_pages;
mod lookups;
mod members_come_from_the_database;
mod members_over_tls;
mod members_wait_out_an_outage;
mod postgres;
mod routes_are_read_from_redis;
mod routes_changes_are_told;
mod routes_of_several_devices;
mod routes_over_tls;
mod routes_password_is_never_shown;
mod routes_survive_a_redis_outage;
mod rows;
