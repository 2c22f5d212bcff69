//! A field of the configuration as the table of keys sees it: it takes a checked value and shows itself.

use std::any::Any;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::addresses::{HostPort, NatsAuth, NatsServer};
use super::plain::show_span;
use super::secret::Secret;
use super::value::Value;

/// A field that a row of the table fills.
pub(super) trait Field: Comparable {
    /// Takes the value.
    fn set(&mut self, value: Value);
    /// The value as one would write it; a secret is `***`.
    fn show(&self) -> String;
}

/// A field beside the same one of another configuration: what is shown of a secret does not tell it from another.
pub(super) trait Comparable {
    /// Whether both hold the same.
    fn is_same(&self, other: &dyn Any) -> bool;
    /// Takes what the other holds.
    fn take(&mut self, other: &dyn Any);
    /// Itself, to be compared.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Any + Clone + PartialEq> Comparable for T {
    fn is_same(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<T>() == Some(self)
    }

    fn take(&mut self, other: &dyn Any) {
        if let Some(other) = other.downcast_ref::<T>() {
            self.clone_from(other);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What a field holds before the table has filled it.
pub(super) trait Blank {
    /// The value; no configuration that is used has it, unless its key says so.
    fn blank() -> Self;
}

macro_rules! blank {
    ($($type:ty = $value:expr,)+) => {
        $(impl Blank for $type {
            fn blank() -> Self {
                $value
            }
        })+
    };
}

blank! {
    String = Self::new(),
    Secret = Self::default(),
    bool = false,
    u16 = 0,
    u32 = 0,
    Duration = Self::ZERO,
    PathBuf = Self::new(),
    HostPort = Self { host: String::new(), port: 0 },
    Vec<HostPort> = Self::new(),
    Vec<NatsServer> = Self::new(),
    NatsAuth = Self::None,
    SocketAddr = Self::from((Ipv4Addr::UNSPECIFIED, 0)),
}

/// A value that the kind of a key cannot give: a defect of the table, found by the tests that read all defaults.
pub(super) fn wrong(value: &Value) -> ! {
    unreachable!("the table gives this key another kind of value: {:?}", std::mem::discriminant(value))
}

macro_rules! field {
    ($($type:ty: $pattern:pat => $taken:expr, $field:ident => $shown:expr;)+) => {
        $(impl Field for $type {
            fn set(&mut self, value: Value) {
                *self = match value {
                    $pattern => $taken,
                    other => wrong(&other),
                };
            }

            fn show(&self) -> String {
                let $field = self;
                $shown
            }
        })+
    };
}

field! {
    String: Value::Text(text) => text, field => field.clone();
    Secret: Value::Text(text) => Self::new(&text), field => field.to_string();
    bool: Value::Bool(is_so) => is_so, field => field.to_string();
    u16: Value::Count(number) => Self::try_from(number).expect("the table's bounds fit"), field => field.to_string();
    u32: Value::Count(number) => Self::try_from(number).expect("the table's bounds fit"), field => field.to_string();
    Duration: Value::Span(time) => time, field => show_span(*field);
    PathBuf: Value::Text(path) => path.into(), field => field.display().to_string();
    HostPort: Value::Hosts(mut hosts) => hosts.swap_remove(0), field => field.to_string();
    SocketAddr: Value::Listen(address) => address, field => field.to_string();
}
