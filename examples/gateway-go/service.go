package main

import (
	"context"
	"errors"
	"io"
	"slices"

	pb "resonance.example/gateway-go/gatewaypb"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NotConnected is the text for a user who is not connected here; the engine looks for the user elsewhere then.
const NotConnected = "user not connected"

// Connections are the users who are connected to this gateway.
type Connections interface {
	// Deliver hands a message to a user's connection; "" or why it could not. It must not wait for the client: all others wait
	// meanwhile. A connection whose buffer is full is better cut off: the client comes back for what it missed.
	Deliver(user string, message *pb.PushMessage) string
	// Notify tells a user's connection that a session has messages up to a sequence; its client reads them when it looks. Of one
	// session a connection needs the newest only. "" or why it could not, as for Deliver.
	Notify(user string, notice *pb.SessionNotice) string
}

// Gateway answers each protocol of proto/gateway.proto.
type Gateway struct {
	pb.UnimplementedPushServiceServer
	connections Connections
	// many says that PushMessage is protocol stream-many. On this rpc a gateway speaks one of the two, since a frame does not say which
	// it is of.
	many bool
}

var errNoMessage = status.Error(codes.InvalidArgument, "a push without a message")
var errNothing = status.Error(codes.InvalidArgument, "a push without a message or a notice")

// Push is protocol unary: one message for many users.
func (g *Gateway) Push(_ context.Context, request *pb.PushRequest) (*pb.PushResponse, error) {
	return g.push(request)
}

func (g *Gateway) push(request *pb.PushRequest) (*pb.PushResponse, error) {
	if request.Message == nil {
		return nil, errNoMessage
	}
	answer := &pb.PushResponse{MsgId: request.Message.MsgId}
	for _, user := range request.ToUsernames {
		if failed := g.connections.Deliver(user, request.Message); failed != "" {
			answer.FailedUsernames = append(answer.FailedUsernames, user)
			if answer.Error == "" {
				answer.Error = failed
			}
		}
	}
	return answer, nil
}

// answerEach answers each frame in the order in which they come. The engine half-closes a stream that it needs no more: what came
// before is answered then, and the stream ends with OK.
func answerEach[F, A any](stream grpc.BidiStreamingServer[F, A], take func(*F) (*A, error)) error {
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := take(frame)
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// PushMessage is protocol stream: a frame a recipient, and an answer a frame, which names nobody. Or it is stream-many: the messages of
// Push, a frame a message for many users, and an answer a frame, which names whom it could not reach.
func (g *Gateway) PushMessage(stream grpc.BidiStreamingServer[pb.PushMessageRequest, pb.PushMessageResponse]) error {
	if g.many {
		return answerEach(&grpc.GenericServerStream[pb.PushRequest, pb.PushResponse]{ServerStream: stream}, g.push)
	}
	return answerEach(stream, func(frame *pb.PushMessageRequest) (*pb.PushMessageResponse, error) {
		if frame.Message == nil {
			return nil, errNoMessage
		}
		failed := g.connections.Deliver(frame.ToUsername, frame.Message)
		return &pb.PushMessageResponse{MsgId: frame.Message.MsgId, SeqId: frame.Message.SeqId, Error: failed}, nil
	})
}

// PushBatch is protocol batch: an answer a frame, with the failures only.
func (g *Gateway) PushBatch(stream grpc.BidiStreamingServer[pb.PushBatchRequest, pb.PushBatchResponse]) error {
	return answerEach(stream, func(frame *pb.PushBatchRequest) (*pb.PushBatchResponse, error) {
		answer := &pb.PushBatchResponse{BatchId: frame.BatchId}
		for _, request := range frame.Pushes {
			pushed, err := g.push(request)
			if err != nil {
				return nil, err
			}
			if len(pushed.FailedUsernames) > 0 {
				answer.Failures = append(answer.Failures, pushed)
			}
		}
		return answer, nil
	})
}

// PushGroups is protocol group: lists of users are said once a stream, and then referred to.
func (g *Gateway) PushGroups(stream grpc.BidiStreamingServer[pb.GroupFrame, pb.GroupAnswer]) error {
	lists := lists{}
	return answerEach(stream, func(frame *pb.GroupFrame) (*pb.GroupAnswer, error) {
		return g.takeGroups(lists, frame)
	})
}

// takeGroups takes changes first, then pushes to lists, then pushes by name, whatever their order in the bytes.
func (g *Gateway) takeGroups(lists lists, frame *pb.GroupFrame) (*pb.GroupAnswer, error) {
	for _, change := range frame.Changes {
		if err := lists.change(change); err != nil {
			return nil, err
		}
	}
	answer := &pb.GroupAnswer{FrameId: frame.FrameId}
	for number, push := range frame.Pushes {
		hand, err := g.handerOf(push)
		if err != nil {
			return nil, err
		}
		users, known := lists.known(push.GroupId, push.Version)
		if !known {
			if !slices.Contains(answer.UnknownGroups, push.GroupId) {
				answer.UnknownGroups = append(answer.UnknownGroups, push.GroupId)
			}
			continue
		}
		answer.Failures = append(answer.Failures, handToAll(number, users, push.Except, hand)...)
	}
	for number, single := range frame.Singles {
		if single.Message == nil {
			return nil, errNoMessage
		}
		hand := func(user string) string { return g.connections.Deliver(user, single.Message) }
		failures := handToAll(len(frame.Pushes)+number, single.ToUsernames, nil, hand)
		answer.Failures = append(answer.Failures, failures...)
	}
	return answer, nil
}

// handerOf is what hands a push to a user: a message, or a notice in the place of one.
func (g *Gateway) handerOf(push *pb.GroupPush) (func(user string) string, error) {
	if message := push.GetMessage(); message != nil {
		return func(user string) string { return g.connections.Deliver(user, message) }, nil
	}
	if notice := push.GetNotice(); notice != nil {
		return func(user string) string { return g.connections.Notify(user, notice) }, nil
	}
	return nil, errNothing
}

// handToAll hands over to each but those at the places in except; one failure for each text.
func handToAll(push int, users []string, except []uint32, hand func(user string) string) []*pb.GroupFailure {
	var failures []*pb.GroupFailure
	for place, user := range users {
		if _, left := slices.BinarySearch(except, uint32(place)); left {
			continue
		}
		failed := hand(user)
		if failed == "" {
			continue
		}
		at := slices.IndexFunc(failures, func(failure *pb.GroupFailure) bool { return failure.Error == failed })
		if at < 0 {
			failures = append(failures, &pb.GroupFailure{Push: uint32(push), Error: failed})
			at = len(failures) - 1
		}
		failures[at].Places = append(failures[at].Places, uint32(place))
	}
	return failures
}

// list is the names of a group as of one version.
type list struct {
	version uint32
	users   []string
}

// lists are those of one stream; a new stream begins with none.
type lists map[uint32]list

func (l lists) change(change *pb.GroupChange) error {
	switch known, is := l[change.GroupId]; {
	case change.Forget:
		delete(l, change.GroupId)
	case change.Replace:
		l[change.GroupId] = list{change.Version, change.Add}
	case !is:
		// A change of what is not known is passed over.
	case known.version+1 != change.Version:
		// A change was missed: the list is unknown from now on. It is never guessed at.
		delete(l, change.GroupId)
	default:
		users := slices.Clone(known.users)
		for _, place := range slices.Backward(change.Remove) {
			if int(place) >= len(users) {
				return status.Error(codes.InvalidArgument, "a place that is none")
			}
			users = slices.Delete(users, int(place), int(place)+1)
		}
		l[change.GroupId] = list{change.Version, append(users, change.Add...)}
	}
	return nil
}

// known is the names of a group as of this version; with another version the group is forgotten.
func (l lists) known(group, version uint32) ([]string, bool) {
	known, is := l[group]
	if is && known.version != version {
		delete(l, group)
		return nil, false
	}
	return known.users, is
}
