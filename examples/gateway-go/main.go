// A gateway in Go that speaks all protocols of proto/gateway.proto: registers in etcd, says in Redis that its users are here, and prints
// what each gets. Real gateways hold connections of clients instead of a list of names: that is the interface Connections.
//
//	go run . -id gw-2 -users cat -listen 127.0.0.1:9001
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	pb "resonance.example/gateway-go/gatewaypb"

	"google.golang.org/grpc"
)

const (
	// How long the registration and the routes hold when nobody renews them.
	lasts = 15 * time.Second
	// How often they are renewed.
	renewedEvery = 5 * time.Second
	// How long streams may take to end when the gateway stops.
	drain = 5 * time.Second
	// The largest message of the engine.
	messageBytesMax = 4 << 20
)

// printed are users of whom each message is one line.
type printed []string

func (p printed) Deliver(user string, message *pb.PushMessage) string {
	if !slices.Contains(p, user) {
		return NotConnected
	}
	fmt.Printf("%s <- %s in %s: %s\n", user, message.FromUsername, message.SessionId, message.Content)
	return ""
}

func (p printed) Notify(user string, notice *pb.SessionNotice) string {
	if !slices.Contains(p, user) {
		return NotConnected
	}
	fmt.Printf("%s <- %s has messages up to %d\n", user, notice.SessionId, notice.MaxSeqId)
	return ""
}

func main() {
	id := flag.String("id", "gw-1", "the id that routes name")
	listen := flag.String("listen", "127.0.0.1:9000", "where to listen")
	advertise := flag.String("advertise", "", "host:port under which engines reach it; empty: that of -listen")
	protocols := flag.String("protocols", "group,notice,batch,stream,unary", "what it says that it speaks; with stream-many it speaks that in the place of stream")
	users := flag.String("users", "ann,bob", "the users who are connected to it")
	etcd := flag.String("etcd", "127.0.0.1:2379", "etcd, host:port")
	redis := flag.String("redis", "127.0.0.1:6379", "Redis, host:port")
	flag.Parse()
	if *advertise == "" {
		*advertise = *listen
	}
	here := strings.Split(*users, ",")
	many := slices.ContainsFunc(strings.Split(*protocols, ","), func(one string) bool { return strings.TrimSpace(one) == "stream-many" })
	socket, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(messageBytesMax))
	pb.RegisterPushServiceServer(server, &Gateway{connections: printed(here), many: many})
	go func() {
		if err := server.Serve(socket); err != nil {
			log.Fatal(err)
		}
	}()
	log.Printf("%s listens on %s for %s", *id, *listen, *users)
	value, err := json.Marshal(map[string]any{
		"id": *id, "name": "gateway-service", "version": "1",
		"metadata":  map[string]string{"gateway_id": *id, "push_protocols": *protocols},
		"endpoints": []string{"grpc://" + *advertise},
	})
	if err != nil {
		log.Fatal(err)
	}
	stopped, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	registry := &registration{etcd: *etcd, key: "/resonance/services/gateway-service/" + *id, value: string(value)}
	for stopped.Err() == nil {
		if err := registry.renew(); err != nil {
			log.Printf("etcd: %v", err)
		}
		if err := sayRoutes(*redis, *id, here); err != nil {
			log.Printf("Redis: %v", err)
		}
		select {
		case <-stopped.Done():
		case <-time.After(renewedEvery):
		}
	}
	log.Printf("%s stops", *id)
	// First nobody comes any more, then what is under way ends.
	if err := registry.remove(); err != nil {
		log.Printf("etcd: %v", err)
	}
	late := time.AfterFunc(drain, server.Stop)
	server.GracefulStop()
	late.Stop()
}
