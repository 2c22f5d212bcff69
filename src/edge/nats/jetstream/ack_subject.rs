//! What the subject that acknowledges an event says of its delivery.
//!
//! Promises to read both forms that servers use: 9 tokens, and 11 or 12 with the domain and the account's hash in front
//! of the stream. Refuses everything else: whoever knows an inbox can publish to it, with any reply subject.

/// One delivery of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// 1 the first time.
    pub deliveries: u64,
    pub stream_sequence: u64,
    pub consumer_sequence: u64,
    /// When the server stored it, nanoseconds since 1970.
    pub stored_nanos: u64,
}

/// Reads its stream, its consumer and the rest; none when it is no such subject.
pub(super) fn parse(subject: &str) -> Option<(&str, &str, Delivery)> {
    let mut tokens = [""; 10];
    let mut count = 0;
    for token in subject.strip_prefix("$JS.ACK.")?.split('.') {
        *tokens.get_mut(count)? = token;
        count += 1;
    }
    let rest = match count {
        7 => &tokens[..7],
        9 | 10 => &tokens[2..9],
        _ => return None,
    };
    let number = |at: usize| rest[at].parse::<u64>().ok();
    let delivery = Delivery {
        deliveries: number(2)?,
        stream_sequence: number(3)?,
        consumer_sequence: number(4)?,
        stored_nanos: number(5)?,
    };
    number(6)?;
    (!rest[0].is_empty() && !rest[1].is_empty()).then_some((rest[0], rest[1], delivery))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let want = Delivery {
            deliveries: 2,
            stream_sequence: 30,
            consumer_sequence: 31,
            stored_nanos: 1_700_000_000_000_000_000,
        };
        let short = "$JS.ACK.RESONANCE.task-service.2.30.31.1700000000000000000.7";
        let long = "$JS.ACK.hub.ABCDEF.RESONANCE.task-service.2.30.31.1700000000000000000.7";
        let want = Some(("RESONANCE", "task-service", want));
        assert_eq!(parse(short), want);
        assert_eq!(parse(long), want);
        assert_eq!(parse(&format!("{long}.random")), want);
    }

    #[test]
    fn fuzzed_ack_subject() {
        crate::fuzz::run("ack_subject", 20_000, |bytes| {
            let subject = String::from_utf8_lossy(bytes);
            let Some((stream, consumer, delivery)) = parse(&subject) else { return };
            assert!(subject.starts_with("$JS.ACK.") && !stream.is_empty() && !consumer.is_empty());
            let Delivery { deliveries, stream_sequence, consumer_sequence, stored_nanos } = delivery;
            let plain = format!(
                "$JS.ACK.{stream}.{consumer}.{deliveries}.{stream_sequence}.{consumer_sequence}.{stored_nanos}.0"
            );
            assert_eq!(parse(&plain), Some((stream, consumer, delivery)));
        });
    }

    #[test]
    fn what_is_no_ack_subject_is_refused() {
        for subject in [
            "",
            "$JS.ACK.",
            "$JS.API.STREAM.DELETE.RESONANCE",
            "$JS.ACK.S.C.1.2.3.4",
            "$JS.ACK.S.C.1.2.3.4.5.6",
            "$JS.ACK.S.C.one.2.3.4.5",
            "$JS.ACK.S..1.2.3.4.5",
            "$JS.ACK.S.C.1.2.3.4.-5",
            "$JS.ACK.d.h.S.C.1.2.3.4.5.r.more",
            "$JS.ACK.S.C.1.2.3.4.99999999999999999999999",
        ] {
            assert_eq!(parse(subject), None, "{subject}");
        }
    }
}
