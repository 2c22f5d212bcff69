//! The gateways of a world, behaving as the workload says.

use std::sync::Arc;
use std::time::Duration;

use super::World;
use crate::error::Result;
use crate::gateways::{Behaviour, Gateway, GatewayOptions, Protocols, Recorder};
use crate::workload::How;

impl World {
    /// Starts them all; `recorder` is told of each push. `plain` ones are tonic's own; those that are slow or deaf are
    /// plain in any case.
    ///
    /// # Errors
    /// When there are not enough ports.
    pub fn start_gateways(
        &self,
        recorder: &Arc<impl Recorder>,
        protocols: Protocols,
        plain: bool,
    ) -> Result<Vec<Gateway>> {
        let start = |gateway| {
            let (behaviour, must_be_plain) = self.behaviour_of(gateway);
            let options = GatewayOptions::new(Self::gateway_name(gateway), recorder.clone());
            let options = options.protocols(protocols).behaviour(behaviour);
            Gateway::start(if plain || must_be_plain { options } else { options.fast() })
        };
        (0..self.workload.gateways).map(start).collect()
    }

    /// How a gateway behaves, and whether only a plain one can. Refusing ones answer at once: the verdict has them refuse.
    fn behaviour_of(&self, gateway: u32) -> (Behaviour, bool) {
        let Some(misbehaving) = self.workload.misbehaviour_of(gateway) else { return (Behaviour::Prompt, false) };
        let pause = Duration::from_millis(misbehaving.ms.into());
        match misbehaving.how {
            How::Slow => (Behaviour::Slow(pause), true),
            How::Deaf => (Behaviour::Deaf, true),
            How::Flapping => (Behaviour::Flapping { every: pause, seed: gateway.into() }, false),
            How::Refusing => (Behaviour::Prompt, false),
        }
    }
}
