//! What is written and what is not: `log.level` and `log.filter` as one filter.
//!
//! Promises that a text which [`Directives::read`] takes can be used: the check of the configuration and the start of the
//! log read it here, and nowhere else.

use tracing_subscriber::filter::{Directive, EnvFilter};

use crate::config::LogLevel;

/// What `log.filter` asks for, each with its text.
#[derive(Debug, Default)]
pub struct Directives(Vec<(String, Directive)>);

impl Directives {
    /// Reads directives that are separated by commas; each is looked at alone, so that a wrong one is named.
    ///
    /// # Errors
    /// The first that is none, and what may be written.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut depth = 0_i32;
        let parts = text.split(|c: char| {
            // A span's fields are separated by commas as well.
            depth += i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
            c == ',' && depth == 0
        });
        let parts = parts.map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| Ok((part.to_owned(), directive(part)?))).collect::<Result<_, _>>().map(Self)
    }

    /// As they are read again.
    pub fn text(&self) -> String {
        self.0.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",")
    }
}

fn directive(text: &str) -> Result<Directive, String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let allowed = "write target=level, such as h2=debug, with trace, debug, info, warn, error or off";
    let shown = crate::model::redact::value(text);
    let Ok(directive) = text.parse::<Directive>() else {
        return Err(format!("{shown} is not a directive; {allowed}"));
    };
    // A word alone is a target, so a level that is misspelled would be read as one that nobody has.
    let word = text.to_lowercase();
    let is_near = |level: &&str| strsim::damerau_levenshtein(level, &word) == 1 || word == "warning";
    if !LEVELS.contains(&word.as_str()) && LEVELS.iter().any(is_near) {
        return Err(format!("{shown} is not a level; {allowed}"));
    }
    Ok(directive)
}

/// The engine's own lines from the level up, those of the crates below it from `warn` up; what the text says of a target
/// wins over both, also where it names none.
///
/// # Errors
/// See [`Directives::read`].
pub fn filter_of(level: LogLevel, text: &str) -> Result<EnvFilter, String> {
    let others = if level == LogLevel::Error { LogLevel::Error } else { LogLevel::Warn };
    let (fields, plain): (Vec<_>, Vec<_>) =
        Directives::read(text)?.0.into_iter().partition(|(text, _)| text.contains(','));
    // `EnvFilter` takes a text apart at each comma, also at those between the fields of a span: such a directive is added.
    let mut whole = format!("{},task_engine={}", others.word(), level.word());
    for (text, _) in &plain {
        whole = format!("{whole},{text}");
    }
    let filter = EnvFilter::builder().parse(whole).map_err(|error| error.to_string())?;
    Ok(fields.into_iter().fold(filter, |filter, (_, directive)| filter.add_directive(directive)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_can_be_used() {
        for (text, whole) in [
            ("", ""),
            (" , ", ""),
            ("debug", "debug"),
            ("h2=debug, hyper=info ,", "h2=debug,hyper=info"),
            ("[push{a=1,b=2}]=debug", "[push{a=1,b=2}]=debug"),
            ("h2=debug,tonic[span{a=1, b=2}]=info,off", "h2=debug,tonic[span{a=1, b=2}]=info,off"),
            ("[{a,b}]=trace", "[{a,b}]=trace"),
            ("[push]=debug,[{a}]=info", "[push]=debug,[{a}]=info"),
        ] {
            let directives = Directives::read(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(directives.text(), whole);
            let filter = filter_of(LogLevel::Info, whole).unwrap_or_else(|why| panic!("{text}: {why}")).to_string();
            for (part, directive) in directives.0 {
                assert!(filter.contains(&directive.to_string()), "{part} is not in {filter}");
            }
        }
    }

    #[test]
    fn fuzzed_log_filter() {
        crate::fuzz::run("log_filter", 3_000, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            match Directives::read(&text) {
                Err(why) => assert!(!why.is_empty() && filter_of(LogLevel::Info, &text).is_err(), "{text:?}"),
                Ok(directives) => {
                    let whole = directives.text();
                    assert_eq!(Directives::read(&whole).map(|again| again.text()), Ok(whole.clone()));
                    filter_of(LogLevel::Info, &whole).unwrap_or_else(|why| panic!("{text:?}: {why}"));
                }
            }
        });
    }

    #[test]
    fn what_is_refused_is_named() {
        for (text, bad) in [
            ("h2=debug,task_engine=lots", "\"task_engine=lots\""),
            ("[push{a=1,b=2}=debug", "\"[push{a=1,b=2}=debug\""),
            ("[push{a=1,b=2}]=debug,[x{a=1,}]", "\"[x{a=1,}]\""),
            ("[x{a=y{1,2}}]=debug", "\"[x{a=y{1,2}}]=debug\""),
            ("a]b,c", "\"a]b,c\""),
            ("h2=debug;info=x", "\"h2=debug;info=x\""),
            ("wran", "\"wran\""),
        ] {
            for why in [Directives::read(text).map(drop), filter_of(LogLevel::Warn, text).map(drop)] {
                let why = why.expect_err(text);
                assert!(why.starts_with(&format!("{bad} is not a ")), "{text}: {why}");
            }
        }
    }
}
