//! Promise: the page at `/` shows in a browser what the engine's own numbers say, while faults are under way, in two languages, and on
//! a phone; and it says so when the engine answers no more.

use std::path::Path;

use harness::gateways::{Behaviour, Protocols};
use task_engine::model::outcome::RecipientOutcome;
use task_engine::telemetry::metrics::Stage;
use testkit::browser::Browser;
use testkit::engine::{Process, World};

const WIDE: (u32, u32) = (1100, 900);
const PHONE: (u32, u32) = (390, 844);
/// A gateway's table row by its id: its cells.
const CELLS: &str = "(id => [...document.querySelectorAll('#gateways tr')].map(row => [...row.cells].map(cell => cell.innerText)).find(row => row[0] === id))";

/// A session with a member at a gateway that answers, one at a gateway that never does, and one who is nowhere.
fn world() -> (World, [harness::gateways::Gateway; 2]) {
    let world = World::start();
    let gateways = ["prompt", "deaf"].map(|id| world.gateway(id, Protocols::STREAM));
    gateways[1].behave(Behaviour::Deaf);
    world.members("group:1", &["anna", "bert", "nobody"]);
    world.route("anna", "prompt");
    world.route("bert", "deaf");
    (world, gateways)
}

fn url(engine: &Process) -> String {
    format!("http://{}/", engine.admin())
}

/// The page as a picture, for whoever wants to look at it.
fn keep(browser: &mut Browser, name: &str) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, browser.png()).expect("a picture");
    println!("the page as a picture: {}", file.display());
}

#[test]
fn it_shows_a_fault_while_it_is_under_way() {
    let (world, _gateways) = world();
    let engine = world.engine(2, "gateway:\n  delivery_timeout: 20s\n");
    let mut browser = Browser::open(&url(&engine), WIDE, "en-US");
    browser.wait("ready", "document.querySelector('#state').innerText === 'ready'");
    let publisher = world.publisher();
    publisher.publish("group:1", "system", 1..201);
    engine.wait_metrics("one gateway has it all, the other keeps it", |metrics| {
        metrics.recipients("delivered") == 200 && metrics.of("gateway_backlog_recipients", "gateway=\"deaf\"") == 200
    });
    browser.wait("what waits for the deaf gateway", &format!("{CELLS}('deaf')?.[2] === '200'"));
    browser.wait(
        "its state and that nothing waits for the other",
        &format!("{CELLS}('prompt')?.[2] === '0' && {CELLS}('deaf')[1] === 'open'"),
    );
    browser.wait(
        "that its oldest push is old",
        "document.querySelectorAll('#gateways td.bad, #gateways td.warn').length > 0",
    );
    browser.wait("events in flight", "document.querySelector('#tile_flight b').innerText === '200'");
    browser.wait("the ends", "document.querySelector('#ends').innerText.includes('delivered')");
    let rows = browser.value("document.querySelectorAll('#stages tr').length");
    assert_eq!(rows, Stage::ALL.len() + 1, "a row a stage");
    let chart =
        "document.querySelector('#chart-pushes polyline.delivered').getAttribute('points').split(' ').length > 2";
    browser.wait("a line of what was pushed", chart);
    keep(&mut browser, "page-fault.png");
    // Another fault: a store that is away is named with what it says.
    world.maria.stop().expect("MariaDB ends");
    browser.wait("not ready", "document.querySelector('#state').innerText === 'not ready'");
    browser.wait("for MySQL", "document.querySelector('#parts li.waiting')?.innerText.startsWith('mysql')");
    keep(&mut browser, "page-not-ready.png");
    engine.send(libc::SIGSTOP);
    browser.wait(
        "no answer",
        "document.querySelector('#state').innerText === 'no answer' && !document.querySelector('#silent').hidden",
    );
    assert!(browser.text("#silent").contains("has not answered for"));
    engine.send(libc::SIGCONT);
    browser.wait("it answers again", "document.querySelector('#silent').hidden");
}

#[test]
fn it_is_read_in_two_languages_and_on_a_phone() {
    let (world, _gateways) = world();
    let engine = world.engine(1, "");
    let mut browser = Browser::open(&url(&engine), PHONE, "zh-CN");
    browser.wait("Chinese", "document.querySelector('#state').innerText === '就绪'");
    world.publisher().publish("group:1", "system", 1..51);
    browser.wait("the ends", "document.querySelector('#ends').innerText.includes('已送达')");
    let ends: Vec<_> = RecipientOutcome::ALL.iter().map(|end| format!("end_{}", end.label())).collect();
    let stages: Vec<_> = Stage::ALL.iter().map(|stage| format!("stage_{}", stage.label())).collect();
    let missing = browser.value(&format!(
        "[...{ends:?}, ...{stages:?}, ...Object.keys(WORDS.en), ...Object.keys(WORDS.zh)].filter(key => !WORDS.en[key] || !WORDS.zh[key]).join()"
    ));
    assert_eq!(missing, "", "each word is there in both languages");
    let wide = browser.value("document.documentElement.scrollWidth");
    assert_eq!(wide, PHONE.0, "nothing is wider than the phone");
    keep(&mut browser, "page-phone.png");
    browser.value("document.querySelector('#language').click()");
    assert_eq!(browser.text("#state"), "ready");
    assert_eq!(browser.value("document.documentElement.lang"), "en");
    engine.stop_clean();
}

#[test]
fn it_asks_no_other_host_and_whoever_has_no_browser_gets_paths() {
    let world = World::start();
    let engine = world.engine_not_ready(1, "");
    let answer = |accept: &str| {
        harness::pages::request(engine.admin(), "GET", "/", accept, testkit::wait::PATIENCE).expect("an answer")
    };
    testkit::engine::eventually("the port answers", || engine.page("/livez").is_some());
    let html = answer("Accept: text/html,application/xhtml+xml\r\n");
    assert!(html.head.to_ascii_lowercase().contains("content-security-policy: default-src 'none'"), "{}", html.head);
    assert!(
        !html.body.contains("http://")
            || html.body.matches("http://").count() == html.body.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(!html.body.contains("https://"));
    let plain = answer("");
    assert!(plain.body.starts_with("task-engine\n") && plain.body.contains("/readyz"), "{}", plain.body);
}
