//! Modules that stand beside each other (`push::ledger` and `push::inbox`, `edge::nats::reader` and `edge::nats::connection`) form
//! no circle. What their common parent defines counts for nobody; what it re-exports counts for the module that it is from;
//! modules of tests count for nothing. Of the engine, circles over floors are impossible already. The crates of the load test
//! have no floors, so there the modules of the root are beside each other too.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, parse, read};

/// Circles that are still there, and why. The list may only get shorter, and so may each circle.
const KNOWN: [(&[&str], &str); 0] = [];

/// Who uses whom, and the first place where.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// The modules that stand `depth` deep or deeper in their crate.
fn graph(sources: &[Source], depth: usize) -> Graph {
    let modules = sources.iter().map(|source| source.module.as_slice()).collect::<BTreeSet<_>>();
    let mut exported = BTreeMap::new();
    for source in sources {
        for used in source.uses.iter().filter(|used| used.is_public && used.to.len() > source.module.len()) {
            let name = used.to.last().expect("not empty");
            exported.insert([&source.module[..], std::slice::from_ref(name)].concat(), &used.to);
        }
    }
    let mut graph = Graph::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        for used in source.uses.iter().filter(|used| !used.is_test) {
            let to = (1..=used.to.len()).find_map(|length| exported.get(&used.to[..length])).map_or(&used.to, |to| *to);
            let common = source.module.iter().zip(to).take_while(|(one, other)| one == other).count();
            let (Some(from), Some(to)) = (source.module.get(..=common), to.get(..=common)) else { continue };
            if common >= depth && modules.contains(to) {
                let place = format!("{}:{}", source.path, used.line);
                graph.entry(from.join("::")).or_default().entry(to.join("::")).or_insert(place);
            }
        }
    }
    graph
}

/// All that can be reached from a module.
fn reach<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        let targets = graph.get(module).into_iter().flat_map(BTreeMap::keys);
        next.extend(targets.map(String::as_str).filter(|target| seen.insert(*target)));
    }
    seen
}

/// The circles: sets of modules of which each reaches each.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<&str>> {
    let reached = graph.keys().map(|module| (module.as_str(), reach(graph, module))).collect::<BTreeMap<_, _>>();
    let mut circles = BTreeSet::new();
    for (from, targets) in &reached {
        let is_back = |to: &&str| reached.get(to).is_some_and(|targets| targets.contains(from));
        let circle = targets.iter().copied().filter(is_back).collect::<BTreeSet<_>>();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles
}

/// Each arrow inside a circle, with its first place.
fn arrows(graph: &Graph, circle: &BTreeSet<&str>) -> String {
    let mut lines = String::new();
    for from in circle {
        for (to, place) in graph[*from].iter().filter(|(to, _)| circle.contains(to.as_str())) {
            lines += &format!("    {from} -> {to} ({place})\n");
        }
    }
    lines
}

#[test]
fn modules_form_no_circle() {
    let graph = graph(&read(&["src"]), 1);
    let found = circles(&graph);
    let known =
        KNOWN.iter().map(|(modules, _)| modules.iter().copied().collect()).collect::<BTreeSet<BTreeSet<&str>>>();
    let mut wrong = String::new();
    for circle in found.difference(&known) {
        wrong += &format!(
            "a circle, cut one arrow (move what both need below both): {circle:?}\n{}",
            arrows(&graph, circle)
        );
    }
    for circle in known.difference(&found) {
        wrong += &format!("no such circle any more, take it out of KNOWN of tests/tidy/circles.rs: {circle:?}\n");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn modules_of_the_load_test_form_no_circle() {
    let mut wrong = String::new();
    for folder in ["loadtest/bench/src", "loadtest/harness/src", "loadtest/yardsticks/src"] {
        let graph = graph(&read(&[folder]), 0);
        assert!(graph.len() > 5, "the modules of {folder} are found: {graph:?}");
        for circle in circles(&graph) {
            wrong += &format!("a circle, cut one arrow: {circle:?}\n{}", arrows(&graph, &circle));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_circle_is_found() {
    let sources = [
        ("src/push.rs", "mod a; mod b;\npub use b::Thing;\npub struct Own;"),
        ("src/push/a.rs", "use crate::push::Thing;"),
        ("src/push/b.rs", "use super::Own;"),
        ("src/push/b/deep.rs", "use super::super::c;"),
        ("src/push/c.rs", "fn f() { crate::push::{a, b}; }"),
        ("src/push/d.rs", "use crate::push::a;\n#[cfg(test)]\nmod tests { use crate::push::e; }"),
        ("src/push/e.rs", "use crate::push::d;"),
        ("src/push/e/one.rs", "use super::two::Two;"),
        ("src/push/e/two.rs", "pub struct Two;\nfn f(_: crate::push::e::one::One) {}"),
    ];
    let sources = sources.map(|(path, text)| parse(path, text));
    let graph = graph(&sources, 1);
    let low = BTreeSet::from(["push::e::one", "push::e::two"]);
    assert_eq!(circles(&graph), BTreeSet::from([BTreeSet::from(["push::a", "push::b", "push::c"]), low]));
    let roots = ["loadtest/x/src/one.rs", "loadtest/x/src/two.rs"].map(|path| parse(path, "use crate::{one, two};"));
    assert_eq!(circles(&self::graph(&roots, 0)), BTreeSet::from([BTreeSet::from(["one", "two"])]));
    assert!(circles(&self::graph(&roots, 1)).is_empty(), "the floors of the engine see to these");
}
