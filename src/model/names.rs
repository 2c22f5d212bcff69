//! Lists of names and routes in one piece of memory each: a lookup of a thousand users is three allocations, not a
//! thousand.

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
    /// No route: not connected anywhere.
    Offline,
    /// There is a value and it is no route (no JSON, or without a gateway_id).
    Bad,
    /// The store answered others of the ask, and has no answer for this user: nothing is known.
    Unread,
}

/// The routes of a lookup's users, in the order they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteList {
    text: String,
    ends: Vec<(u32, RouteKind)>,
    /// What was said in place of the first answer that is lacking.
    refusal: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouteKind {
    Gateway,
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
            Route::Offline => RouteKind::Offline,
            Route::Bad => RouteKind::Bad,
            Route::Unread => {
                self.refusal.get_or_insert_default();
                RouteKind::Unread
            }
        };
        self.ends.push((self.text.len() as u32, kind));
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
        let mut start = 0;
        self.ends.iter().map(move |&(end, kind)| {
            let id = &self.text[start..end as usize];
            start = end as usize;
            match kind {
                RouteKind::Gateway => Route::Gateway(id),
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
