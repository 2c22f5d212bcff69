//! The pure core, one shard of it in tables: no clock, no socket, no server. One promise a module.

mod answers_are_timed;
mod classes_share_a_turn;
mod dead_letters_come_before_the_settlement;
mod ends_are_remembered;
mod events_are_looked_at;
mod events_are_told_of;
mod expired_routes_are_noticed;
mod gateway_guide_shows_the_bytes;
mod hung_gateways_leave_room_for_the_others;
mod inbox_rows_come_before_the_settlement;
mod large_groups_let_small_ones_go_first;
mod large_sessions_are_asked_for_alone;
mod large_sessions_need_no_rows;
mod lists_of_users_are_said_once;
mod lost_routes_are_no_absence;
mod notices_stand_for_messages;
mod one_bad_push_does_not_stop_its_gateway;
mod order_is_kept;
mod other_events_are_no_repeats;
mod overload_is_met_by_class;
mod repeats_are_settled_with_the_first;
mod senders_are_told_where_configured;
mod several_gateways_are_one_recipient;
mod several_users_take_a_frame;
mod silence_costs_few_copies;
mod urgent_goes_first;
