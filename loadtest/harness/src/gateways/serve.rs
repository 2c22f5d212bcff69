//! A gateway's listener and its connections: HTTP/2 until they are told otherwise.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use task_engine::model::proto::gateway::push_service_server::PushServiceServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::codegen::Service;

use super::control::{Control, Order};
use super::cuttable::Cuttable;
use super::fast;
use super::io::{GateIo, Socket};
use super::plain::{self, MANY, Plain};

/// Serves whoever connects, until it is told to die.
pub(super) async fn accept(
    listener: TcpListener,
    control: Arc<Control>,
    mut order: watch::Receiver<Order>,
    window: u32,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = order.changed() => {
                if changed.is_err() || *order.borrow_and_update() == Order::Die {
                    break;
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    control.counters.accepted.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(serve(socket, control.clone(), order.clone(), window));
                }
                // Out of file handles: the next try may find some.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// The connection after its TLS handshake, where there is one. A gateway that is stuck does not even shake hands.
async fn greeted(socket: TcpStream, control: &Control) -> Option<Socket> {
    let Some(acceptor) = control.tls.get() else { return Some(Socket::Plain(socket)) };
    let mut behaviour = control.behaviour.subscribe();
    while control.is_stuck() {
        behaviour.changed().await.ok()?;
    }
    // A client that is not taken is told so by TLS.
    acceptor.accept(socket).await.ok().map(|socket| Socket::Tls(Box::new(socket)))
}

async fn serve(socket: TcpStream, control: Arc<Control>, mut order: watch::Receiver<Order>, window: u32) {
    // Without it answers wait for acks of the peer; a socket that refuses it is still served.
    let _ = socket.set_nodelay(true);
    let Some(socket) = greeted(socket, &control).await else { return };
    let io = TokioIo::new(GateIo::new(socket, control.clone(), order.clone()));
    let grpc = PushServiceServer::new(Plain(control.clone()));
    let cuts = control.cut.clone();
    let by_hand = control.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut grpc = grpc.clone();
        let mut cut = cuts.subscribe();
        let by_hand = by_hand.clone();
        async move {
            if let Some(rpc) = fast::rpc_of(&by_hand, request.uri().path()) {
                return Ok(fast::serve(&by_hand, rpc, request).map(|body| Cuttable::new(body, cut)));
            }
            if by_hand.protocols.many && request.uri().path() == MANY {
                return Ok(plain::serve_many(by_hand, request).await.map(|body| Cuttable::new(body, cut)));
            }
            tokio::select! {
                biased;
                _ = cut.changed() => Err(std::io::Error::other("cut")),
                Ok(answer) = grpc.call(request) => Ok(answer.map(|body| Cuttable::new(body, cut))),
            }
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window).initial_connection_window_size(window);
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut behaviour = control.behaviour.subscribe();
    loop {
        tokio::select! {
            biased;
            changed = order.changed() => match *order.borrow_and_update() {
                Order::GoAway(_) if changed.is_ok() => connection.as_mut().graceful_shutdown(),
                Order::Serve if changed.is_ok() => {}
                _ => return,
            },
            // Polls the connection again: it may be stuck no longer.
            _ = behaviour.changed() => {}
            _ = connection.as_mut() => return,
        }
    }
}
