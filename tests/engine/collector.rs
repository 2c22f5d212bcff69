//! A collector of traces: takes them by OTLP over HTTP, and decodes them with the messages of the crate that the engine uses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What it does with spans.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Takes them.
    Takes,
    /// Takes all but one of a request.
    TakesAllButOne,
    /// Answers so, and takes none.
    Status(u16),
    /// Reads the request and says nothing.
    Nothing,
}

/// What it got.
#[derive(Default)]
pub struct Taken {
    pub requests: Vec<ExportTraceServiceRequest>,
    /// Requests that came, whatever it answers.
    pub asked: usize,
    /// Of the newest request.
    pub headers: HeaderMap,
}

#[derive(Clone)]
struct Shared {
    answer: Arc<Mutex<Answer>>,
    taken: Arc<Mutex<Taken>>,
}

/// The collector; it is gone with its value.
pub struct Collector {
    pub addr: SocketAddr,
    shared: Shared,
    _runtime: Runtime,
}

impl Collector {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
        let shared = Shared { answer: Arc::new(Mutex::new(Answer::Takes)), taken: Arc::default() };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let app = Router::new().route("/v1/traces", post(take)).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { addr, shared, _runtime: runtime }
    }

    /// From now on it answers so.
    pub fn answers(&self, answer: Answer) {
        *self.shared.answer.lock().expect("not poisoned") = answer;
    }

    /// All spans that it took, in order.
    pub fn spans(&self) -> Vec<Span> {
        let taken = self.shared.taken.lock().expect("not poisoned");
        let all = taken.requests.iter().flat_map(|request| &request.resource_spans);
        all.flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans).cloned().collect()
    }

    /// What it got.
    pub fn look<T>(&self, at: impl FnOnce(&Taken) -> T) -> T {
        at(&self.shared.taken.lock().expect("not poisoned"))
    }
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    let answer = *shared.answer.lock().expect("not poisoned");
    shared.taken.lock().expect("not poisoned").asked += 1;
    let rejected_spans = match answer {
        Answer::Takes => 0,
        Answer::TakesAllButOne => 1,
        Answer::Status(status) => return (StatusCode::from_u16(status).expect("a status"), b"no".to_vec()),
        Answer::Nothing => std::future::pending().await,
    };
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    {
        let mut taken = shared.taken.lock().expect("not poisoned");
        taken.requests.push(request);
        taken.headers = headers;
    }
    let partial_success = ExportTracePartialSuccess { rejected_spans, error_message: String::new() };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial_success) };
    (StatusCode::OK, answer.encode_to_vec())
}

/// The text of an attribute, or its number as one.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()?;
    match value {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}
