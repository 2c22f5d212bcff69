//! Lookups of members and routes against servers, views and proxies that answer badly: who waits, who ends, and who does
//! not notice.

mod broken_stores;
mod empty_lists;
mod lacking_routes;
mod refused_routes;
mod slow_sessions;
mod view;
