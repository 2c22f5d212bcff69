//! Lists of names and routes in one piece of memory each: a lookup of a thousand users is three allocations, not a
//! thousand.

use crate::model::limits::ROUTE_GATEWAYS_MAX;
use crate::model::outcome::RouteFault;

/// Names, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameList {
    text: String,
    ends: Vec<u32>,
}

impl NameList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name at the end.
    pub fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len() as u32);
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The name at a place.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.text[start..self.ends[index] as usize]
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All names run together: equal lists have equal text and equal ends.
    pub fn parts(&self) -> (&str, &[u32]) {
        (&self.text, &self.ends)
    }
}

impl<S: AsRef<str>> FromIterator<S> for NameList {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut list = Self::new();
        for name in names {
            list.push(name.as_ref());
        }
        list
    }
}

/// What a route lookup says of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// Connected to the gateway of this id.
    Gateway(&'a str),
    /// Connected to several gateways.
    Gateways(GatewayNames<'a>),
    /// No route: not connected anywhere.
    Offline,
    /// There is a value and it is no route (no JSON, or without a gateway_id).
    Bad,
    /// The store answered others of the ask, and has no answer for this user: nothing is known.
    Unread,
}

/// The ids of one user's gateways: two or more, each once, the newest first.
#[derive(Clone, Copy, Debug)]
pub struct GatewayNames<'a> {
    text: &'a str,
    /// Where each ends, and where the first begins, in the text of the whole list.
    ends: &'a [u32],
    start: u32,
}

impl<'a> GatewayNames<'a> {
    /// The ids in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        let (text, mut start) = (self.text, self.start);
        self.ends.iter().map(move |end| {
            let id = &text[start as usize..*end as usize];
            start = *end;
            id
        })
    }
}

impl PartialEq for GatewayNames<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for GatewayNames<'_> {}

/// The routes of a lookup's users, in the order they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteList {
    text: String,
    ends: Vec<(u32, RouteKind)>,
    /// Where each id of the users with several gateways ends.
    id_ends: Vec<u32>,
    /// By user: what was wrong with a list of gateways.
    faults: Vec<(u32, RouteFault)>,
    /// What was said in place of the first answer that is lacking.
    refusal: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouteKind {
    Gateway,
    Gateways,
    Offline,
    Bad,
    Unread,
}

impl RouteList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the route of the next user.
    pub fn push(&mut self, route: Route<'_>) {
        let kind = match route {
            Route::Gateway(id) => {
                self.text.push_str(id);
                RouteKind::Gateway
            }
            Route::Gateways(ids) => return self.push_gateways(ids.iter()),
            Route::Offline => RouteKind::Offline,
            Route::Bad => RouteKind::Bad,
            Route::Unread => {
                self.refusal.get_or_insert_default();
                RouteKind::Unread
            }
        };
        self.ends.push((self.text.len() as u32, kind));
    }

    /// Adds the next user as one who is connected to these gateways, the newest first. What is empty, comes twice or is beyond
    /// [`ROUTE_GATEWAYS_MAX`] is left out; of none at all the route is bad.
    pub fn push_gateways<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        let (start, first) = (self.text.len() as u32, self.id_ends.len());
        for id in ids {
            let known = GatewayNames { text: &self.text, ends: &self.id_ends[first..], start };
            if known.ends.len() == ROUTE_GATEWAYS_MAX {
                break;
            }
            if !id.is_empty() && known.iter().all(|other| other != id) {
                self.text.push_str(id);
                self.id_ends.push(self.text.len() as u32);
            }
        }
        let kind = match self.id_ends.len() - first {
            0 => RouteKind::Bad,
            1 => RouteKind::Gateway,
            _ => RouteKind::Gateways,
        };
        if kind != RouteKind::Gateways {
            self.id_ends.truncate(first);
        }
        self.ends.push((self.text.len() as u32, kind));
    }

    /// The list of gateways of the user who was added last was not taken as it stands.
    pub fn note_fault(&mut self, fault: RouteFault) {
        self.faults.push((self.ends.len().saturating_sub(1) as u32, fault));
    }

    /// The places of the users whose list of gateways was not taken as it stands, and why.
    pub fn faults(&self) -> impl Iterator<Item = (usize, RouteFault)> {
        self.faults.iter().map(|(user, fault)| (*user as usize, *fault))
    }

    /// Adds the next user as one that the store has no answer for; what it says is kept of the first one.
    pub fn push_unread(&mut self, why: &str) {
        self.refusal.get_or_insert_with(|| why.into());
        self.push(Route::Unread);
    }

    /// What the store says in place of answers; none when it answers for all.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// How many users it answers for.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it answers for nobody.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The routes in order.
    pub fn iter(&self) -> impl Iterator<Item = Route<'_>> {
        let (mut start, mut first) = (0, 0);
        self.ends.iter().map(move |&(end, kind)| {
            let (id, from) = (&self.text[start..end as usize], start as u32);
            start = end as usize;
            match kind {
                RouteKind::Gateway => Route::Gateway(id),
                RouteKind::Gateways => {
                    let of_user = self.id_ends[first..].iter().take_while(|id_end| **id_end <= end).count();
                    let ends = &self.id_ends[first..first + of_user];
                    first += of_user;
                    Route::Gateways(GatewayNames { text: &self.text, ends, start: from })
                }
                RouteKind::Offline => Route::Offline,
                RouteKind::Bad => Route::Bad,
                RouteKind::Unread => Route::Unread,
            }
        })
    }
}

impl<'a> FromIterator<Route<'a>> for RouteList {
    fn from_iter<I: IntoIterator<Item = Route<'a>>>(routes: I) -> Self {
        let mut list = Self::new();
        for route in routes {
            list.push(route);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_with_several_gateways_stand_between_the_others() {
        let mut list = RouteList::new();
        list.push(Route::Gateway("gw-1"));
        list.push_gateways(["gw-2", "gw-1", "", "gw-2"]);
        list.push(Route::Offline);
        list.push_gateways(["gw-9", "gw-9"]);
        list.push_gateways([]);
        list.push_gateways(["a", "b", "c"]);
        let copy = list.iter().collect::<RouteList>();
        assert_eq!(copy, list);
        let text = |route: Route<'_>| match route {
            Route::Gateway(id) => id.to_owned(),
            Route::Gateways(ids) => ids.iter().collect::<Vec<_>>().join("+"),
            other => format!("{other:?}"),
        };
        let texts: Vec<_> = list.iter().map(text).collect();
        assert_eq!(texts, ["gw-1", "gw-2+gw-1", "Offline", "gw-9", "Bad", "a+b+c"]);
    }

    #[test]
    fn a_list_of_gateways_has_a_bound() {
        let ids: Vec<String> = (0..1_000).map(|number| format!("gw-{number}")).collect();
        let mut list = RouteList::new();
        list.push_gateways(ids.iter().map(String::as_str));
        let Some(Route::Gateways(taken)) = list.iter().next() else { panic!("{list:?}") };
        assert!(taken.iter().eq(ids[..ROUTE_GATEWAYS_MAX].iter().map(String::as_str)));
    }
}
