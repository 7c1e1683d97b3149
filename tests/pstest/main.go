// Google's fake of Pub/Sub on loopback. It prints its address, then answers each line of its standard input, an object in
// JSON, with one line, and ends with that input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// command is what a test asks for.
type command struct {
	Do           string  // forward, fail, detach or messages
	Seconds      float64 // forward: so much later it is
	Method       string  // fail: calls of this method
	Code         uint32  // fail: end with this code
	Times        int     // fail: so often
	Subscription string  // detach: this one
	Topic        string  // messages: those of this topic
}

// fault is what calls of a method end with, so often.
type fault struct {
	code  codes.Code
	times int
}

// faults are those of all methods.
type faults struct {
	mutex    sync.Mutex
	byMethod map[string]*fault
}

// reactor has calls of a method end with the fault that it has.
type reactor struct {
	method string
	all    *faults
	empty  func() any
}

func (r reactor) React(any) (bool, any, error) {
	r.all.mutex.Lock()
	defer r.all.mutex.Unlock()
	found := r.all.byMethod[r.method]
	if found == nil || found.times == 0 {
		return false, nil, nil
	}
	found.times--
	return true, r.empty(), status.Errorf(found.code, "a fault that was asked for")
}

// answers has an empty answer for each method that can be made to fail.
var answers = map[string]func() any{
	"GetSubscription":   func() any { return &pubsubpb.Subscription{} },
	"GetTopic":          func() any { return &pubsubpb.Topic{} },
	"Pull":              func() any { return &pubsubpb.PullResponse{} },
	"Acknowledge":       func() any { return &emptypb.Empty{} },
	"ModifyAckDeadline": func() any { return &emptypb.Empty{} },
	"Publish":           func() any { return &pubsubpb.PublishResponse{} },
}

// told is what is known of a message.
type told struct {
	ID         string
	Data       []byte
	Attributes map[string]string
	Key        string
	Deliveries int
	Acks       int
}

func main() {
	all := &faults{byMethod: map[string]*fault{}}
	var options []pstest.ServerReactorOption
	for method, empty := range answers {
		options = append(options, pstest.ServerReactorOption{FuncName: method, Reactor: reactor{method, all, empty}})
	}
	server := pstest.NewServerWithAddress("127.0.0.1:0", options...)
	defer server.Close()
	fmt.Println(server.Addr)
	var later time.Duration
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		var answer any = true
		switch asked.Do {
		case "forward":
			later += time.Duration(asked.Seconds * float64(time.Second))
			by := later
			server.SetTimeNowFunc(func() time.Time { return time.Now().Add(by) })
		case "fail":
			all.mutex.Lock()
			all.byMethod[asked.Method] = &fault{codes.Code(asked.Code), asked.Times}
			all.mutex.Unlock()
		case "detach":
			// The fake forgets to say so.
			found, err := server.GServer.GetSubscription(
				context.Background(), &pubsubpb.GetSubscriptionRequest{Subscription: asked.Subscription})
			if err != nil {
				panic(err)
			}
			found.Detached = true
		case "messages":
			found := []told{}
			for _, m := range server.Messages() {
				if strings.HasSuffix(m.Topic, "/topics/"+asked.Topic) {
					found = append(found, told{m.ID, m.Data, m.Attributes, m.OrderingKey, m.Deliveries, m.Acks})
				}
			}
			answer = found
		default:
			panic(asked.Do)
		}
		text, err := json.Marshal(answer)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(text))
	}
}
