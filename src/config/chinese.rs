//! The Chinese column of the table of keys: what each key, section and kind of value is, in the words of the people who run it.
//!
//! Promises a row for each key and each section of [`KEYS`](super::keys::KEYS), and none for what is no key; so whoever adds a
//! key adds its row here, in the same commit.

use super::keys::{Key, Reload};
use super::kinds::{CORES_MAX, Kind};
use super::plain::show_millis;

/// What the section is about.
pub(super) fn about(section: &str) -> &'static str {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, about)| about)
}

/// What the key does; of one without effect, why it has none.
pub(super) fn doc(key: &Key) -> &'static str {
    let (full, of_all) = (key.full(), format!("*.{}", key.name));
    let row = DOCS.iter().find(|(name, _)| *name == full).or_else(|| DOCS.iter().find(|(name, _)| *name == of_all));
    row.map_or("", |(_, doc)| doc)
}

pub(super) const fn reload(reload: Reload) -> &'static str {
    match reload {
        Reload::Restart => "重启后",
        Reload::Running => "重载（SIGHUP）后",
        Reload::Parts => "用户与时限重载（SIGHUP）后，地址重启后",
    }
}

/// What may be written, in words.
pub(super) fn allowed(kind: Kind) -> String {
    match kind {
        Kind::Noted => "任意".to_owned(),
        Kind::Text => "文本".to_owned(),
        Kind::Secret => "文本，任何地方都不回显".to_owned(),
        Kind::SecretFile => "文件路径".to_owned(),
        Kind::Word | Kind::Prefix => "不含空白的文本".to_owned(),
        Kind::Subject => "NATS subject，不含通配符".to_owned(),
        Kind::Name => "名称，不含 `. * > / \\`".to_owned(),
        Kind::Host => "主机名或 IP".to_owned(),
        Kind::Bool => "`true` 或 `false`".to_owned(),
        Kind::Level(words) | Kind::Choice(words) => format!("`{}`", words.join("`、`")),
        Kind::Count(min, max) => format!("整数，{min} 到 {max}"),
        Kind::Port => "端口号，1 到 65535".to_owned(),
        Kind::Span(min, max) => format!("带单位的时长，{} 到 {}", show_millis(min), show_millis(max)),
        Kind::GoSpan => "带单位的时长，1ms 到 1h；0 表示用默认值".to_owned(),
        Kind::Seconds => "带单位的时长，纯数字按秒算；最大 1h".to_owned(),
        Kind::Lifetime => "带单位的时长，1s 到 30days；0s 表示不限".to_owned(),
        Kind::Directives => "`target=level` 或 `level`，列表或逗号分隔".to_owned(),
        Kind::Cores => format!("`all`，或整数，1 到 {CORES_MAX}"),
        Kind::HostPort(port) => format!("`host:port`；不写端口则为 {port}"),
        Kind::EtcdUrls(port) => {
            format!("`host:port` 或 `https://host:port`，列表或逗号分隔；不写端口则为 {port}")
        }
        Kind::Dsn => "`user:password@tcp(host:port)/database?params`".to_owned(),
        Kind::NatsUrls => "`nats://[user:password@]host:port` 或 `tls://...`，列表或逗号分隔".to_owned(),
        Kind::Listen => "`地址:端口`；端口 0 表示任选一个空闲端口".to_owned(),
        Kind::HttpUrl => "`http://host:port` 或 `https://host:port`，路径可写可不写".to_owned(),
        Kind::Header => "消息头名称，不能是 NATS（`Nats-*`）或引擎自己（`Task-Engine-*`）的".to_owned(),
        Kind::TypeClasses => "键下面逐行写 `type: class`，或 `type=class` 的列表（逗号分隔亦可）".to_owned(),
        Kind::SizeClasses => "键下面逐行写 `人数: class`，或 `人数=class` 的列表（逗号分隔亦可）".to_owned(),
    }
}

const SECTIONS: &[(&str, &str)] = &[
    ("log", "引擎自身的日志。"),
    ("mysql", "会话成员（t_session_member）与收件箱（t_inbox；配置了 inbox.rows_up_to 时还有 t_message_content）。"),
    ("postgres", "同样的三张表放在 PostgreSQL 里时用它，代替 mysql：写了哪一节就用哪个库，两节都写是错误。"),
    ("redis", "用户路由：某个用户连在哪个网关上。"),
    ("nats", "推送事件从哪里来。"),
    ("etcd", "网关在哪里注册。"),
    ("registry", "网关在 etcd 里怎么命名。"),
    ("service", "Resonance 各服务的自述。"),
    ("", "网关注册用的服务名：<registry.namespace>/<gateway_service_name>/<实例>。"),
    ("consumer", "本进程消费哪些事件，怎么消费。"),
    ("push_consumer", "Resonance 把存储和推送拆成两个消费者之后，consumer 一节的新名字；同一个键只在其中一节写。"),
    (
        "storage_consumer",
        "Resonance 的第二个消费者：给每个成员（含发送者）落一行。写了这一节，而没写 inbox.store 和 inbox.sender 时，前者取 all，后者取 true；\
         落的就是被推送的那些事件。",
    ),
    ("stream_consumer", "新版 Resonance 里智能体（agent）流式文本的消费者。"),
    ("jetstream", "新版 Resonance 怎么建 stream。"),
    ("observability", "Resonance 各服务给 Prometheus 和采集端的可观测性配置。"),
    ("priority", "事件分级：谁先走，谁让路。一条规则都不配时，所有事件一视同仁。"),
    ("gateway", "怎么把推送交给网关。"),
    ("members", "成员列表缓存多久，空列表等多久。"),
    ("routes", "用户路由怎么缓存。"),
    ("inbox", "谁会在 t_inbox 里落一行。"),
    ("dead_letters", "永远推不出去的事件放哪里（死信）。"),
    ("engine", "线程数与停机。"),
    ("admin", "监控指标与健康检查。"),
    ("tracing", "把事件的链路追踪交给支持 OTLP/HTTP 的采集端。"),
];

/// By full name; `*` stands for every section.
#[rustfmt::skip]
const DOCS: &[(&str, &str)] = &[
    ("log.level", "引擎自身日志的最低级别：trace、debug、info、warn、error。底层库的日志从 warn 起打印。"),
    ("log.filter", "单独调某个模块的级别：target=level，多个用逗号隔开，例如 h2=debug,task_engine::push=warn；只写级别则对所有底层库生效。"),
    ("log.format", "console 和 text 给人看，其中 console 带颜色；json 每行一个对象，给采集用。"),
    ("log.output", "stdout、stderr，或文件路径（追加写）；收到 SIGHUP 会重新打开，配合 logrotate 使用。"),
    ("log.enableColor", "format 为 console 且输出是终端时带颜色。"),
    ("log.addSource", "每行日志带上源码文件和行号。"),
    ("log.sourceRoot", "源码路径以编译器看到的为准"),
    ("mysql.name", "Go 服务里的标签"),
    ("mysql.dsn", "Go 驱动写法的 DSN：user:password@tcp(host:port)/database?params。写了它，下面五个键就不看了。"),
    ("mysql.dsn_file", "DSN 放在这个文件里，代替 mysql.dsn。"),
    ("mysql.host", "主机名或 IP。"),
    ("mysql.port", "TCP 端口。"),
    ("mysql.username", "用户名。"),
    ("mysql.password", "密码；建议用环境变量 RESONANCE_MYSQL_PASSWORD。"),
    ("mysql.password_file", "密码放在这个文件里，代替 mysql.password；末尾换行不算。启动和重载时读取。"),
    ("mysql.database", "t_ 系列表所在的库。"),
    ("mysql.charset", "连接固定使用 utf8mb4"),
    ("mysql.connect_timeout", "建连加登录的时限。"),
    ("mysql.timeout", "单条语句等服务端应答的时限；超时则弃用该连接。"),
    ("mysql.max_idle_conns", "这里没有连接池，连接数由线程数决定"),
    ("mysql.max_open_conns", "这里没有连接池，连接数由线程数决定"),
    ("mysql.conn_max_lifetime", "连接用到这个岁数就换：只在两条语句之间换，并重新解析域名，主从切换、迁移后能跟上；会随机提前至多五分之一，避免同时换。0s：不换。"),
    ("postgres.name", "Go 服务里的标签"),
    ("postgres.host", "主机名或 IP。"),
    ("postgres.port", "TCP 端口。"),
    ("postgres.username", "用户名。"),
    ("postgres.password", "密码；建议用环境变量 RESONANCE_POSTGRES_PASSWORD。"),
    ("postgres.password_file", "密码放在这个文件里，代替 postgres.password；末尾换行不算。启动和重载时读取。"),
    ("postgres.database", "t_ 系列表所在的库，表要在该用户的 search_path 里。"),
    ("postgres.sslmode", "与其他客户端的写法相同。require、verify-ca、verify-full：服务端必须走 TLS 并通过校验，见 postgres.tls。allow、prefer：配了 postgres.tls 的键才走 TLS，走就一定校验。disable：不走。"),
    ("postgres.timezone", "行里的时间由服务端决定"),
    ("postgres.connect_timeout", "建连加登录的时限。"),
    ("postgres.timeout", "单条语句等服务端应答的时限；超时则弃用该连接。"),
    ("postgres.max_idle_conns", "这里没有连接池，连接数由线程数决定"),
    ("postgres.max_open_conns", "这里没有连接池，连接数由线程数决定"),
    ("postgres.conn_max_lifetime", "连接用到这个岁数就换：只在两条语句之间换，并重新解析域名，主从切换后能找到新地址；随机提前至多五分之一。0s：不换。"),
    ("redis.name", "Go 服务里的标签"),
    ("redis.addr", "host:port。"),
    ("redis.username", "ACL 用户（Redis 6 及以上）；留空即 default 用户。"),
    ("redis.password", "密码；建议用 RESONANCE_REDIS_PASSWORD，或放进 redis.password_file。"),
    ("redis.password_file", "密码放在这个文件里，代替 redis.password；启动和重载时读取。"),
    ("redis.db", "库号。"),
    ("redis.pool_size", "每个分片一条 pipeline 连接"),
    ("redis.min_idle_conns", "每个分片一条 pipeline 连接"),
    ("redis.dial_timeout", "建连加登录的时限。"),
    ("redis.read_timeout", "等服务端应答的时限；超时则弃用该连接，重新查路由。"),
    ("redis.write_timeout", "请求写出去的时限；超时则弃用该连接。"),
    ("nats.name", "引擎的连接在 NATS 监控里显示的名称前缀。"),
    ("nats.url", "nats://[user:password@]host:port，多个用逗号隔开。任一地址写成 tls://，则所有节点（含集群广播出来的）都必须走 TLS；服务端自己要求 TLS 时，写 nats:// 也会走 TLS。"),
    ("nats.username", "用户名，url 里没写时用它。"),
    ("nats.password", "密码；建议用 RESONANCE_NATS_PASSWORD。"),
    ("nats.password_file", "密码放在这个文件里，代替 nats.password；启动和重载时读取。"),
    ("nats.token", "用 token 登录，代替用户名密码。"),
    ("nats.token_file", "token 放在这个文件里，代替 nats.token；启动和重载时读取。"),
    ("nats.creds_file", "nsc 生成的凭证文件（JWT 加 seed），代替用户名密码；每次建连都重读，轮换凭证不用重启。"),
    ("nats.nkey_seed_file", "用户 NKey 的 seed（SU...）所在文件，代替用户名密码；每次建连都重读。"),
    ("nats.nkey_seed", "seed 本身；建议用 RESONANCE_NATS_NKEY_SEED。"),
    ("nats.tls.mode", "required：等同于在 nats.url 里写 tls://。auto：nats.url 里写了 tls://，或配了 nats.tls 的其他键，才要求 TLS。"),
    ("nats.tls.ca", "签发服务端证书的 CA 文件（PEM）；留空用系统 CA。只要配了 nats.tls 的任何一个键，所有节点都必须走 TLS。启动时读取，文件变了则下次建连时重读。"),
    ("nats.tls.server_name", "校验服务端证书用的名称；留空则用 nats.url 里的主机名。集群用 IP 广播出来的节点，按广播它的那个节点的主机名校验。"),
    ("nats.tls.handshake_first", "服务端要求一连上就握手 TLS 时打开（nats-server 2.10 的 handshake_first）。"),
    ("nats.timeout", "等服务端应答的时限，也用于链路探测。"),
    ("nats.max_reconnect", "引擎会一直重连，直到停机"),
    ("nats.reconnect_delay", "第二次建连前的等待；之后翻倍，封顶 1s；本身大于 1s 则保持不变。"),
    ("nats.ping_interval", "链路探测间隔，至少每 5s 一次；半开连接最迟在它乘以 max_pings_out 之后被发现。"),
    ("nats.max_pings_out", "连续多少次探测失败就放弃这条连接。"),
    ("nats.retry_interval", "见 nats.reconnect_delay"),
    ("nats.health_check_freq", "见 nats.ping_interval"),
    ("etcd.name", "Go 服务里的标签"),
    ("etcd.endpoints", "host:port、http://host:port 或 https://host:port，列表或逗号分隔。任一地址写成 https://，则全部要求 TLS。"),
    ("etcd.username", "用户名，etcd 开了鉴权时填写。"),
    ("etcd.password", "密码；建议用 RESONANCE_ETCD_PASSWORD。"),
    ("etcd.password_file", "密码放在这个文件里，代替 etcd.password；启动和重载时读取。"),
    ("etcd.dial_timeout", "建连时限。"),
    ("etcd.timeout", "单个请求等应答的时限。"),
    ("etcd.keep_alive_time", "连接空闲多久后做一次保活探测；至少 6s，探测间隔小于 5s 的客户端会被 etcd 断开。"),
    ("etcd.keep_alive_timeout", "保活探测的时限。"),
    ("etcd.tls.mode", "required：etcd 必须走 TLS。auto：本节配了其他键，或有 https:// 开头的地址，才要求 TLS。"),
    ("registry.namespace", "所有服务的 key 前缀。"),
    ("registry.forget_after", "网关注册信息没了，但还能应答：最后一次已知的地址再用多久（租约可能丢，网关不一定真下线）。0s：立刻不用。"),
    ("registry.default_ttl", "引擎自己不注册，没有租约"),
    ("registry.enable_cache", "网关列表始终由 watch 维护，etcd 断开时沿用"),
    ("registry.poll_interval", "网关列表由 watch 维护，变更即时可见，不需要轮询"),
    ("registry.cache_expiration", "网关列表始终由 watch 维护，etcd 断开时沿用"),
    ("service.name", "Go 服务里的标签"),
    ("service.http_port", "健康检查和指标都在 admin.listen"),
    ("gateway_queue_size", "排队上限由引擎按用户数和字节数控制"),
    ("gateway_pusher_count", "每个网关一条连接，按会话保序推送"),
    ("gateway_service_name", "网关的服务名。"),
    ("consumer.topic", "推送事件的 subject。"),
    ("consumer.urgent_topic", "JetStream：第二个 subject，用独立的消费者和独立的连接读，上面的事件一律按 urgent 处理，主 topic 在 broker 里积压也不影响它。给全是紧急消息的会话用（通话、踢人）；两个 subject 之间不保序，同一会话不要两边都发。partitioned 时为 <urgent_topic>.<partition>。不能与 ownership etcd、partitioner 同用。需要的东西由 `setup` 创建。留空：不用。"),
    ("consumer.queue_group", "消费者组：一个事件只会到组里的一个进程。"),
    ("consumer.worker_count", "推送线程数由 engine.cores 决定"),
    ("consumer.max_retry", "单个事件的查询失败后最多重试几次。"),
    ("consumer.retry_interval", "两次重试之间的等待；纯数字按秒算，也可带单位。"),
    ("consumer.mode", "core：core NATS，broker 不落盘。jetstream：每个接收者都有了结果才 ack。"),
    ("consumer.stream", "JetStream 的 stream，必须已存在。"),
    ("consumer.durable", "JetStream 的 durable 消费者，没有就创建。留空：同消费者组名。"),
    ("consumer.assignment", "queue：全组共用一个 subject。partitioned：按 <topic>.<partition> 分区，每个分片一条连接，多实例也保序。"),
    ("consumer.ownership", "多实例时分区归谁读。none：每个实例都读全部分区，所以只能跑一个实例。etcd：每个分区同一时刻只有一个属主，实例上下线时自动再均衡；要求 mode jetstream、assignment partitioned，并且所有实例取值一致。"),
    ("consumer.lease_ttl", "ownership etcd 时：实例多久没有心跳，别人就可以接管它的分区。调大：容忍 etcd 或网络抖动；调小：实例挂掉后接管更快。"),
    ("consumer.partitions", "会话切成多少个分区；发布方、broker、所有实例必须一致。不少于 engine.cores。"),
    ("consumer.partitioner", "on：发布方不关心分区，直接发到 topic，同一事件发几次都行；由 stream <stream>_IN 接住，引擎把每个事件按序、只搬一次到 <topic>.<partition>。多实例（ownership etcd）时同一时刻只有一个实例在搬。只能配合 jetstream 加 partitioned；stream 由 `setup` 创建。"),
    ("consumer.ack_wait", "JetStream：一个事件这么久既没 ack 也没报在处理，就会重投。实例崩溃后，下一个实例要等这么久才能拿到它手里的事件，所以不要调大。core NATS 下也有用：存储不可用超过这么久，实例停止消费。"),
    ("consumer.max_ack_pending", "JetStream：同时在途（未 ack）的事件上限。"),
    ("consumer.echo_sender", "on：发送者自己也会收到这条消息，用于多端同步；事件里的 from_device 会透传，网关据此跳过发消息的那个连接。发送者推不到时不落收件箱。"),
    ("push_consumer.topic", "即 consumer.topic。"),
    ("push_consumer.queue_group", "即 consumer.queue_group。"),
    ("push_consumer.worker_count", "推送线程数由 engine.cores 决定"),
    ("push_consumer.max_retry", "即 consumer.max_retry。"),
    ("push_consumer.retry_interval", "即 consumer.retry_interval。"),
    ("storage_consumer.topic", "consumer.topic 和 push_consumer.topic 都没写时用作 consumer.topic；否则不起作用：落的就是被推送的那些事件。"),
    ("storage_consumer.queue_group", "自身不起作用：谁推送，谁落库。"),
    ("storage_consumer.worker_count", "两个线程落库，多行一次提交"),
    ("storage_consumer.max_retry", "落库会一直重试到成功"),
    ("stream_max_delta_bytes", "智能体逐段输出的文本（AgentStreamEvent）不由本引擎推送"),
    ("*.dlq_topic", "死信写入 stream <consumer.stream>_DLQ，或 dead_letters.path；两者都用 task-engine dlq 查看"),
    ("stream_consumer.topic", "智能体逐段输出的文本（AgentStreamEvent）不由本引擎推送"),
    ("stream_consumer.queue_group", "智能体逐段输出的文本（AgentStreamEvent）不由本引擎推送"),
    ("stream_consumer.worker_count", "智能体逐段输出的文本（AgentStreamEvent）不由本引擎推送"),
    ("stream_consumer.max_retry", "智能体逐段输出的文本（AgentStreamEvent）不由本引擎推送"),
    ("stream_consumer.retry_interval", "智能体逐段输出的文本（AgentStreamEvent）不由本引擎推送"),
    ("stream_consumer.dlq_topic", "智能体逐段输出的文本（AgentStreamEvent）不由本引擎推送"),
    ("jetstream.auto_create_stream", "consumer.mode 为 jetstream 时所需的 stream 由 task-engine setup 创建，已有的一概不改"),
    ("jetstream.stream_prefix", "stream 的名字由 consumer.stream 决定"),
    ("jetstream.ack_wait", "见 consumer.ack_wait"),
    ("jetstream.max_deliver", "事件会一直重投到有结果；永远推不出去的成为死信"),
    ("jetstream.retention", "consumer.mode 为 jetstream 时所需的 stream 由 task-engine setup 创建，已有的一概不改"),
    ("jetstream.storage", "consumer.mode 为 jetstream 时所需的 stream 由 task-engine setup 创建，已有的一概不改"),
    ("jetstream.max_age", "consumer.mode 为 jetstream 时所需的 stream 由 task-engine setup 创建，已有的一概不改"),
    ("jetstream.max_bytes", "consumer.mode 为 jetstream 时所需的 stream 由 task-engine setup 创建，已有的一概不改"),
    ("jetstream.replicas", "consumer.mode 为 jetstream 时所需的 stream 由 task-engine setup 创建，已有的一概不改"),
    ("observability.version", "运行的版本见指标 task_engine_build_info"),
    ("observability.instance", "见 engine.instance"),
    ("observability.environment", "见 tracing.resource"),
    ("observability.trace", "见 tracing.export；采集端地址在 tracing.endpoint，这里走 OTLP/HTTP"),
    ("observability.metrics", "健康检查和指标都在 admin.listen"),
    ("priority.header", "发布方用哪个 NATS 消息头标注事件级别，例如 Resonance-Priority，取值 urgent、normal、bulk、fleeting。优先于其他所有规则；取值不认识则计数，按下一条规则定。留空：不读消息头。"),
    ("priority.types", "消息头没定级时，按事件的 type 定级：{call: urgent, typing: fleeting}。urgent 最先走，绝不丢弃；bulk 最后走，网关手里的量到上限一半时让路（转收件箱）；fleeting 同 bulk，而且从不落库，没位置或超时就丢。"),
    ("priority.members_above", "前两条都没定级时，人数超过这个数的会话按此定级：{500: bulk}。多条都满足时取最大的一条。"),
    ("priority.default", "其余事件的级别。"),
    ("priority.fleeting_ttl", "fleeting 事件在写给网关之前，在引擎里最多等多久；超时后尚未发出的部分即丢弃（shed：已 ack，并计数）。0s：不因超时丢弃。"),
    ("priority.stream_target", "一条 urgent 推送，最多允许排在多少「已发给网关但未应答」的推送后面（以时间计）：非紧急推送只有在网关按近期最快速度能在这么久（或四个 RTT，取大者）之内应答完的前提下才写进流，其余留在 outbox 里，让 urgent 先过。0s：网关收多快就写多快。"),
    ("gateway.protocol", "注册信息里没写 push_protocols 的网关按什么协议推。stream：PushMessage，一帧一个用户，Resonance 最早的网关如此。stream-many：PushMessage，一条消息的所有用户放在一帧里，0.1.0 版的网关如此（repeated to_usernames）；应答露出是最早那一代的网关，此后改为一帧一个用户。不认识 PushMessage 的（如今的网关）两种写法都会改用 Push。"),
    ("gateway.delivery_timeout", "推送最多等网关多久（未知、连不上、满了、不应答都算）；超时则接收者记为未送达；期间还在应答别的推送的网关，等三倍时间。要小于 engine.drain_timeout。"),
    ("gateway.notice_above", "成员更多的会话，以及超过 2,000 人且每秒超过 20 条消息的会话：网关声明了 notice、且正文已在 t_message_content 时，在线成员收到通知（会话、最大序号），不收正文；紧急事件仍全文推送。未发出的通知被更新的代替。需要 inbox.rows_up_to 和收件箱。0：从不；客户端打开时才读正文的，10000 合适。"),
    ("gateway.tls.mode", "required：所有网关都必须走 TLS。auto：以 grpcs:// 或 isSecure=true 注册的网关走 TLS，其余走明文。"),
    ("gateway.tls.server_name", "所有网关证书统一校验的名称；留空则用注册地址里的主机名。"),
    ("members.cache_ttl", "会话成员列表缓存多久；0s 表示每次都查数据库。新成员最多晚这么久才开始收到消息。"),
    ("members.empty_wait", "查不到任何成员时事件最多等多久（成员行可能稍后才提交）；之后进死信，原因 no_members。0s：只查一次。"),
    ("routes.cache", "tracked：路由一直缓存，直到 Redis 通知变更（client tracking）。off：每次都查 Redis。"),
    ("inbox.store", "哪些接收者落收件箱：offline（推不到的人）、all（所有人）、off（都不落）。"),
    ("inbox.sender", "store 为 all 时：发送者自己的消息也落一行，和别人一样是未读。给只读 t_inbox 的客户端用。"),
    ("inbox.rows_up_to", "读扩散的门槛：会话人数超过它，且消息正文已在 t_message_content 里，推不到的人就不落行，由读端按会话和 seq 自己拉。每个事件查一次正文；查不到则照常落行。store 为 all 时这种会话谁都不落行。0：总是落行；读端支持拉正文的话建议 500。"),
    ("dead_letters.path", "死信的本地文件：没有 <consumer.stream>_DLQ 这个 stream（core NATS），或死信太大放不进 stream 时用。相对路径以引擎的工作目录为准；`task-engine dlq` 会读它。"),
    ("engine.cores", "分片数，每个分片一个线程、独占一个 CPU：all 或一个数字。"),
    ("engine.instance", "consumer.ownership 为 etcd 时：本实例的名字，实例之间不能重复，重启后不能变。留空：用主机名，不合法的字符换成 -。"),
    ("engine.drain_timeout", "优雅停机的时限；要小于 Kubernetes 的 30 s 强杀时限。"),
    ("engine.recorder", "on：每个分片记住最近 65,536 个没送达的结局，以及送达的千分之一（1/1,024）：会话与用户只存哈希，另有消息 ID、结局、网关、时间，不含消息内容；供 task-engine why 查询。每个分片最多占 6 MiB。"),
    ("admin.listen", "/metrics、/livez、/readyz 的监听地址；`:9100` 表示所有地址，端口 0 表示任选空闲端口。"),
    ("admin.push_latency", "true：/metrics 按级别给出从事件发布到网关应答的耗时。发布时间依次取：消息头 Resonance-Published（毫秒或纳秒的 Unix 时间）、JetStream 落盘时间、以毫秒计的 timestamp；都没有则计为 unknown。准不准取决于两边主机的时钟。"),
    ("admin.tap_content", "true：能访问管理端口的人可以用 task-engine tap --content 看到消息正文；不开则谁也看不到正文。"),
    ("admin.tls.cert", "管理端口的证书文件（PEM）：配了它，端口就只说 TLS；要同时配 admin.tls.key。启动时读取，文件变了则新连接生效。"),
    ("admin.tls.ca", "签发客户端证书的 CA 文件（PEM）；留空则不校验客户端。"),
    ("tracing.export", "otlp：事件结束后以 span 上报（event、members、routes，以及每次推送的 outbox 与 gateway）；上报的条件是发布方已采样（trace_headers 里的 traceparent），或者事件慢，或者有在线的人没推到。已采样事件的 trace_headers 会转给网关。标准变量 OTEL_EXPORTER_OTLP_ENDPOINT、OTEL_EXPORTER_OTLP_HEADERS（这两个也可在末词前加 TRACES_）、OTEL_EXPORTER_OTLP_CERTIFICATE、OTEL_SERVICE_NAME、OTEL_RESOURCE_ATTRIBUTES 同样有效，优先于文件。"),
    ("tracing.endpoint", "采集端地址；span 以 protobuf 发往其 /v1/traces。5 s 内没收下的丢弃并计数，不重试。"),
    ("tracing.headers", "每次上报附带的消息头，如采集端的密钥：name=value,name=value，值里的逗号写 %2C。"),
    ("tracing.headers_file", "消息头放在这个文件里，代替 tracing.headers。"),
    ("tracing.slow_after", "耗时超过它的事件一律上报，不看发布方是否采样；在此之前已结束的推送不单独上报。0s：不按快慢上报。"),
    ("tracing.spans_per_second", "所有分片合计每秒最多上报多少 span（按秒平均）；超出的计数（spans_over_limit）。"),
    ("tracing.service_name", "span 的 service.name；留空则取 tracing.resource 里写的，再没有就是 task-engine。"),
    ("tracing.resource", "span 的其他资源属性：name=value,name=value，值里的逗号写 %2C。"),
    ("*.tls.mode", "required：服务端必须走 TLS。auto：本节配了其他键才要求 TLS。"),
    ("*.tls.ca", "签发服务端证书的 CA 文件（PEM）；留空用系统 CA。启动时读取，文件变了则下次建连时重读。"),
    ("*.tls.cert", "引擎的客户端证书文件（PEM），服务端要双向认证（mTLS）时用；要同时配 tls.key。"),
    ("*.tls.key", "该证书的私钥文件（PEM，不带口令）。"),
    ("*.tls.server_name", "校验服务端证书用的名称；留空则用所连的主机名。"),
    ("*.max_retries", "服务端不可用时会一直重试到恢复"),
    ("*.retry_interval", "重试间隔自动退避，带抖动"),
    ("*.health_check_freq", "连接是否健康由应答判断"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::keys;
    use super::*;

    #[test]
    fn each_key_and_each_section_has_its_row_and_no_row_is_left_over() {
        let missing: Vec<_> = keys::KEYS.iter().filter(|key| doc(key).is_empty()).map(Key::full).collect();
        assert!(missing.is_empty(), "src/config/chinese.rs has no row for {missing:?}: write one, in Chinese");
        let names: BTreeSet<_> = keys::KEYS.iter().flat_map(|key| [key.full(), format!("*.{}", key.name)]).collect();
        let left_over: Vec<_> = DOCS.iter().map(|(name, _)| *name).filter(|name| !names.contains(*name)).collect();
        assert!(left_over.is_empty(), "rows of no key: {left_over:?}");
        let sections = |table: &[(&'static str, &str)]| table.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>();
        assert_eq!(sections(SECTIONS), sections(keys::SECTIONS));
    }

    #[test]
    fn what_stands_in_code_in_one_language_stands_so_in_the_other() {
        // Numbers, keys and words to type are the same; at least the words of choices are.
        for key in keys::KEYS {
            let Kind::Choice(words) = key.kind else { continue };
            for word in words.iter().filter(|word| key.doc.contains(&format!("{word}:"))) {
                assert!(doc(key).contains(word), "{}: {word}", key.full());
            }
        }
    }
}
