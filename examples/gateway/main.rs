//! A gateway that speaks all protocols of `proto/gateway.proto`, for a look at them and to compare your own with.
//!
//! It registers in etcd, says in Redis that its users are here, and prints what each gets. Real gateways hold connections of clients
//! instead of a list of names: that is [`service::Connections`], and all that is missing.
//!
//!     cargo run --example gateway -- --id gw-1 --users ann,bob --etcd 127.0.0.1:2379 --redis 127.0.0.1:6379

mod service;

use std::collections::BTreeSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use etcd_client::{Client, PutOptions};
use service::{Connections, Gateway, ManyGateway, NOT_CONNECTED};
use signal_hook::consts::{SIGINT, SIGTERM};
use task_engine::model::limits::GRPC_MESSAGE_BYTES_MAX;
use task_engine::model::proto::gateway::push_service_server::PushServiceServer;
use task_engine::model::proto::gateway::{PushMessage, SessionNotice};
use tonic::transport::Server;

/// How long the registration and the routes hold when nobody renews them.
const LASTS_SECONDS: i64 = 15;
/// How often they are renewed.
const RENEWED_EVERY: Duration = Duration::from_secs(5);
/// How long streams may take to end when the gateway stops.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Parser)]
#[command(about = "An example of a gateway: prints what its users are pushed")]
struct Args {
    /// The id that routes name.
    #[arg(long, default_value = "gw-1")]
    id: String,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// host:port under which engines reach it [default: that of --listen].
    #[arg(long)]
    advertise: Option<String>,
    /// What it says that it speaks. With `stream-many` among them it speaks that in the place of `stream`.
    #[arg(long, default_value = "group,notice,batch,stream,unary")]
    protocols: String,
    /// The users who are connected to it, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "ann,bob")]
    users: Vec<String>,
    /// etcd, host:port.
    #[arg(long, default_value = "127.0.0.1:2379")]
    etcd: String,
    /// Redis, host:port.
    #[arg(long, default_value = "127.0.0.1:6379")]
    redis: String,
}

/// Users of whom each message is one line.
struct Printed(BTreeSet<String>);

impl Connections for Printed {
    fn deliver(&self, user: &str, message: &PushMessage) -> Result<(), String> {
        if !self.0.contains(user) {
            return Err(NOT_CONNECTED.to_owned());
        }
        println!("{user} <- {} in {}: {}", message.from_username, message.session_id, message.content);
        Ok(())
    }

    fn notify(&self, user: &str, notice: &SessionNotice) -> Result<(), String> {
        if !self.0.contains(user) {
            return Err(NOT_CONNECTED.to_owned());
        }
        println!("{user} <- {} has messages up to {}", notice.session_id, notice.max_seq_id);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || signals.forever().next().map(|signal| stop.send(signal)));
    let users = Arc::new(Printed(args.users.iter().cloned().collect()));
    let server = match args.protocols.split(',').any(|protocol| protocol.trim() == "stream-many") {
        true => Server::builder().add_service(ManyGateway::new(users)),
        false => {
            let service = PushServiceServer::new(Gateway(users));
            Server::builder().add_service(service.max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX))
        }
    };
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let serving = server.serve_with_shutdown(args.listen, async {
        // Said, or this program ends without a word: either way it is time.
        let _ = left.await;
    });
    let serving = tokio::spawn(serving);
    println!("{} listens on {} for {}", args.id, args.listen, args.users.join(", "));
    let mut etcd = Client::connect([&args.etcd], None).await?;
    let lease = etcd.lease_grant(LASTS_SECONDS, None).await?.id();
    let key = format!("/resonance/services/gateway-service/{}", args.id);
    etcd.put(key.clone(), registration(&args), Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut kept) = etcd.lease_keep_alive(lease).await?;
    let mut routes = redis::Client::open(format!("redis://{}/", args.redis))?.get_connection()?;
    let renewing = async {
        loop {
            keeper.keep_alive().await?;
            let left = kept.message().await?.map_or(0, |answer| answer.ttl());
            if left == 0 {
                return Err::<(), Box<dyn Error>>("etcd took the registration away".into());
            }
            say_routes(&mut routes, &args)?;
            tokio::time::sleep(RENEWED_EVERY).await;
        }
    };
    tokio::select! {
        result = renewing => result?,
        _ = stopped => println!("{} stops", args.id),
    }
    // First nobody comes any more, then what is under way ends.
    etcd.delete(key, None).await?;
    drop(leave);
    if let Ok(ended) = tokio::time::timeout(DRAIN, serving).await {
        ended??;
    }
    Ok(())
}

/// What it says of itself.
fn registration(args: &Args) -> String {
    let at = args.advertise.clone().unwrap_or_else(|| args.listen.to_string());
    let metadata = serde_json::json!({"gateway_id": args.id, "push_protocols": args.protocols});
    serde_json::json!({
        "id": args.id,
        "name": "gateway-service",
        "version": "1",
        "metadata": metadata,
        "endpoints": [format!("grpc://{at}")],
    })
    .to_string()
}

/// Says where its users are. With several devices a user contrib/redis does it without races.
fn say_routes(redis: &mut redis::Connection, args: &Args) -> redis::RedisResult<()> {
    let route = serde_json::json!({"gateway_id": args.id}).to_string();
    for user in &args.users {
        let key = format!("resonance:router:user:{user}");
        redis::cmd("SET").arg(key).arg(&route).arg("EX").arg(LASTS_SECONDS).query::<()>(redis)?;
    }
    Ok(())
}
