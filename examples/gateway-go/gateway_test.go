package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pb "resonance.example/gateway-go/gatewaypb"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

// kept is what users got, in order; cat is not connected.
type kept struct{ told []string }

func (k *kept) Deliver(user string, message *pb.PushMessage) string {
	if user == "cat" {
		return NotConnected
	}
	k.told = append(k.told, user+" "+message.Content)
	return ""
}

func (k *kept) Notify(user string, notice *pb.SessionNotice) string {
	if user == "cat" {
		return NotConnected
	}
	k.told = append(k.told, fmt.Sprintf("%s %s up to %d", user, notice.SessionId, notice.MaxSeqId))
	return ""
}

// start serves the gateway in memory and gives a client.
func start(t *testing.T) (pb.PushServiceClient, *kept, context.Context) {
	t.Helper()
	users := &kept{}
	connection, ctx := serve(t, &Gateway{connections: users})
	return pb.NewPushServiceClient(connection), users, ctx
}

// serve serves this gateway in memory.
func serve(t *testing.T, gateway *Gateway) (*grpc.ClientConn, context.Context) {
	t.Helper()
	socket := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	pb.RegisterPushServiceServer(server, gateway)
	go server.Serve(socket)
	t.Cleanup(server.Stop)
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return socket.DialContext(ctx) })
	client, err := grpc.NewClient("passthrough:///gateway", dial, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return client, ctx
}

func said(content string) *pb.PushMessage {
	return &pb.PushMessage{MsgId: 7, SeqId: 70, Content: content}
}

func equal(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUnaryNamesWhoFailed(t *testing.T) {
	client, users, ctx := start(t)
	answer, err := client.Push(ctx, &pb.PushRequest{ToUsernames: []string{"ann", "cat"}, Message: said("x")})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, answer, &pb.PushResponse{MsgId: 7, Error: NotConnected, FailedUsernames: []string{"cat"}})
	if !slices.Equal(users.told, []string{"ann x"}) {
		t.Error(users.told)
	}
	_, err = client.Push(ctx, &pb.PushRequest{ToUsernames: []string{"ann"}})
	if status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

// exchange sends each frame and reads its answer, half-closes, and wants an OK.
func exchange[F, A any](t *testing.T, stream grpc.BidiStreamingClient[F, A], err error, frames ...*F) []*A {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var answers []*A
	for _, frame := range frames {
		if err := stream.Send(frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answers
		}
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, answer)
	}
}

func TestStreamAnswersInOrder(t *testing.T) {
	client, users, ctx := start(t)
	stream, err := client.PushMessage(ctx)
	answers := exchange(t, stream, err,
		&pb.PushMessageRequest{ToUsername: "ann", Message: said("x")},
		&pb.PushMessageRequest{ToUsername: "cat", Message: said("x")},
		&pb.PushMessageRequest{ToUsername: "ann", Message: said("y")})
	if len(answers) != 3 || answers[0].Error != "" || answers[1].Error != NotConnected || answers[2].SeqId != 70 {
		t.Error(answers)
	}
	if !slices.Equal(users.told, []string{"ann x", "ann y"}) {
		t.Error(users.told)
	}
}

func TestStreamManyNamesWhoFailedInOrder(t *testing.T) {
	users := &kept{}
	connection, ctx := serve(t, &Gateway{connections: users, many: true})
	opened, err := connection.NewStream(ctx, &pb.PushService_ServiceDesc.Streams[0], pb.PushService_PushMessage_FullMethodName)
	stream := &grpc.GenericClientStream[pb.PushRequest, pb.PushResponse]{ClientStream: opened}
	var request pb.PushRequest
	var answer pb.PushResponse
	decode(t, "stream-many request", &request)
	decode(t, "stream-many answer", &answer)
	answers := exchange(t, stream, err, &request, &pb.PushRequest{ToUsernames: []string{"ann", "bob"}, Message: said("y")})
	if len(answers) != 2 {
		t.Fatal(answers)
	}
	// The engine needs no text: who is named was not reached.
	equal(t, answers[0], &pb.PushResponse{MsgId: answer.MsgId, Error: NotConnected, FailedUsernames: answer.FailedUsernames})
	equal(t, answers[1], &pb.PushResponse{MsgId: 7})
	if !slices.Equal(users.told, []string{"ann hello", "ann y", "bob y"}) {
		t.Error(users.told)
	}
}

func TestBatchNamesFailuresOnly(t *testing.T) {
	client, _, ctx := start(t)
	stream, err := client.PushBatch(ctx)
	push := func(users ...string) *pb.PushRequest { return &pb.PushRequest{ToUsernames: users, Message: said("x")} }
	answers := exchange(t, stream, err,
		&pb.PushBatchRequest{BatchId: 1, Pushes: []*pb.PushRequest{push("ann"), push("bob")}},
		&pb.PushBatchRequest{BatchId: 2, Pushes: []*pb.PushRequest{push("ann", "cat"), push("bob")}})
	equal(t, answers[0], &pb.PushBatchResponse{BatchId: 1})
	failed := &pb.PushResponse{MsgId: 7, Error: NotConnected, FailedUsernames: []string{"cat"}}
	equal(t, answers[1], &pb.PushBatchResponse{BatchId: 2, Failures: []*pb.PushResponse{failed}})
}

func TestGroupsAreSaidOnceAndNeverGuessedAt(t *testing.T) {
	client, users, ctx := start(t)
	stream, err := client.PushGroups(ctx)
	push := func(version uint32, content string, except ...uint32) *pb.GroupPush {
		return &pb.GroupPush{GroupId: 1, Version: version, Except: except, What: &pb.GroupPush_Message{Message: said(content)}}
	}
	answers := exchange(t, stream, err,
		&pb.GroupFrame{FrameId: 1,
			Changes: []*pb.GroupChange{{GroupId: 1, Version: 1, Replace: true, Add: []string{"ann", "bob", "cat"}}},
			Pushes:  []*pb.GroupPush{push(1, "a", 1)}},
		&pb.GroupFrame{FrameId: 2,
			Changes: []*pb.GroupChange{{GroupId: 1, Version: 2, Remove: []uint32{0, 2}, Add: []string{"dan"}}},
			Pushes:  []*pb.GroupPush{push(2, "b")},
			Singles: []*pb.PushRequest{{ToUsernames: []string{"cat"}, Message: said("c")}}},
		&pb.GroupFrame{FrameId: 3,
			Changes: []*pb.GroupChange{{GroupId: 1, Version: 4, Add: []string{"eve"}}},
			Pushes:  []*pb.GroupPush{push(4, "d"), push(4, "e")}},
		&pb.GroupFrame{FrameId: 4,
			Changes: []*pb.GroupChange{{GroupId: 1, Forget: true}, {GroupId: 2, Version: 9, Replace: true, Add: []string{"ann"}}},
			Pushes:  []*pb.GroupPush{{GroupId: 2, Version: 8, What: &pb.GroupPush_Message{Message: said("f")}}}})
	equal(t, answers[0], &pb.GroupAnswer{FrameId: 1, Failures: []*pb.GroupFailure{{Push: 0, Places: []uint32{2}, Error: NotConnected}}})
	equal(t, answers[1], &pb.GroupAnswer{FrameId: 2, Failures: []*pb.GroupFailure{{Push: 1, Places: []uint32{0}, Error: NotConnected}}})
	equal(t, answers[2], &pb.GroupAnswer{FrameId: 3, UnknownGroups: []uint32{1}})
	equal(t, answers[3], &pb.GroupAnswer{FrameId: 4, UnknownGroups: []uint32{2}})
	if !slices.Equal(users.told, []string{"ann a", "bob b", "dan b"}) {
		t.Error(users.told)
	}
}

func TestNoticesAreToldToEachPlaceOfTheirList(t *testing.T) {
	client, users, ctx := start(t)
	notice := func(version uint32, except ...uint32) *pb.GroupPush {
		told := &pb.SessionNotice{SessionId: "s", MaxSeqId: 70, MsgId: 7}
		return &pb.GroupPush{GroupId: 1, Version: version, Except: except, What: &pb.GroupPush_Notice{Notice: told}}
	}
	stream, err := client.PushGroups(ctx)
	answers := exchange(t, stream, err,
		&pb.GroupFrame{FrameId: 1,
			Changes: []*pb.GroupChange{{GroupId: 1, Version: 1, Replace: true, Add: []string{"ann", "bob", "cat"}}},
			Pushes:  []*pb.GroupPush{notice(1, 1)}},
		&pb.GroupFrame{FrameId: 2, Pushes: []*pb.GroupPush{notice(2)}})
	equal(t, answers[0], &pb.GroupAnswer{FrameId: 1, Failures: []*pb.GroupFailure{{Push: 0, Places: []uint32{2}, Error: NotConnected}}})
	equal(t, answers[1], &pb.GroupAnswer{FrameId: 2, UnknownGroups: []uint32{1}})
	if !slices.Equal(users.told, []string{"ann s up to 70"}) {
		t.Error(users.told)
	}
	stream, err = client.PushGroups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.GroupFrame{FrameId: 1, Pushes: []*pb.GroupPush{{GroupId: 1, Version: 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

// The guide's bytes are written by the engine's own encoder (tests/core/gateway_guide_shows_the_bytes.rs).
func TestTheBytesOfTheGuideAreUnderstoodAndAnsweredAsItSays(t *testing.T) {
	gateway := &Gateway{connections: &kept{}}
	var request pb.PushRequest
	var answer pb.PushResponse
	decode(t, "unary request", &request)
	decode(t, "unary answer", &answer)
	got, err := gateway.Push(context.Background(), &request)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, &answer)
	var batch pb.PushBatchRequest
	decode(t, "batch request", &batch)
	if len(batch.Pushes) != 1 || !slices.Equal(batch.Pushes[0].ToUsernames, request.ToUsernames) {
		t.Error(&batch)
	}
}

// decode reads one message out of the block of this name.
func decode(t *testing.T, block string, into proto.Message) {
	t.Helper()
	guide, err := os.ReadFile("../../docs/gateways.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(guide), "<!-- bytes: "+block+" -->\n```text\n")
	text, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("the guide has no block %q", block)
	}
	// The bytes of a line stand before its words.
	line := regexp.MustCompile(`(?m)^ *((?:[0-9a-f]{2}(?: |$))+)`)
	var all bytes.Buffer
	for _, match := range line.FindAllStringSubmatch(text, -1) {
		some, err := hex.DecodeString(strings.ReplaceAll(match[1], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(some)
	}
	if err := proto.Unmarshal(all.Bytes()[5:], into); err != nil {
		t.Fatal(err)
	}
}
