//! Routes that name several gateways, and what is wrong with such lists.

use crate::model::ids::UserIx;
use crate::model::limits::{GATEWAY_SETS_MAX, ROUTE_GATEWAYS_MAX};
use crate::model::names::GatewayNames;
use crate::model::outcome::RouteFault;
use crate::push::context::Context;
use crate::push::delivery::Delivery;
use crate::push::resolve::Resolve;

impl Resolve {
    /// The store says that a user is at several gateways. One without a place in the table is left out until there is one.
    pub(super) fn take_gateways(
        &mut self,
        user: UserIx,
        ids: GatewayNames<'_>,
        delivery: &mut Delivery,
        cx: &mut Context,
    ) {
        let mut lacks = false;
        let mut places = Vec::with_capacity(ROUTE_GATEWAYS_MAX);
        for id in ids.iter() {
            let place = delivery.place_of_route(id, cx);
            lacks |= place.is_none();
            places.extend(place);
        }
        if !self.users.set_gateways(user, &places, lacks) {
            cx.warn("gateway_sets_full", || {
                format!(
                    "user {}: the users of this shard are at {GATEWAY_SETS_MAX} different sets of gateways, and there is no \
                     room for another: the message goes to the newest gateway of such a user only",
                    self.users.text(user)
                )
            });
        }
    }

    /// A route's list of gateways was not taken as it stands.
    #[cold]
    pub(super) fn warn_of_list(&self, user: Option<UserIx>, fault: RouteFault, cx: &mut Context) {
        cx.activity.route_lists_mended += 1;
        let Some(user) = user else { return };
        cx.warn(fault.label(), || {
            let what = match fault {
                RouteFault::Empty => "is empty: gateway_id is taken".to_owned(),
                RouteFault::NoList => "is no list: gateway_id is taken".to_owned(),
                RouteFault::NoId => "names what is no id of a gateway: that is left out".to_owned(),
                RouteFault::Repeated => "names a gateway twice: it gets the message once".to_owned(),
                RouteFault::TooLong => format!("is too long: only the first {ROUTE_GATEWAYS_MAX} get the message"),
            };
            format!("user {}: the route's list \"gateways\" {what}; look at who writes it", self.users.text(user))
        });
    }
}
