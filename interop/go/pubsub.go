package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	upTopic   = "interop/up"   // the dialer publishes, the listener takes
	downTopic = "interop/down" // the listener sends each message back on
	messages  = 1000
)

func newPubSub(ctx context.Context, h host.Host) (*pubsub.PubSub, error) {
	return pubsub.NewGossipSub(ctx, h,
		pubsub.WithPeerOutboundQueueSize(4*messages), // it drops what is beyond 32 otherwise
		pubsub.WithValidateQueueSize(4*messages),
	)
}

// servePubSub sends what comes on one topic back on the other.
func servePubSub(ctx context.Context, h host.Host) error {
	ps, err := newPubSub(ctx, h)
	if err != nil {
		return err
	}
	up, err := ps.Join(upTopic)
	if err != nil {
		return err
	}
	down, err := ps.Join(downTopic)
	if err != nil {
		return err
	}
	sub, err := up.Subscribe(pubsub.WithBufferSize(4 * messages))
	if err != nil {
		return err
	}
	go func() {
		for {
			message, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if err := down.Publish(ctx, message.Data); err != nil {
				fmt.Fprintln(os.Stderr, "pubsub:", err)
			}
		}
	}()
	return nil
}

// pubsubCheck publishes, without a pause, and wants each message back once.
func (d *dialer) pubsubCheck(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		for _, id := range d.host.Mux().Protocols() {
			if strings.HasPrefix(string(id), "/meshsub/") || strings.HasPrefix(string(id), "/floodsub/") {
				d.host.RemoveStreamHandler(protocol.ID(id))
			}
		}
	}()
	ps, err := newPubSub(ctx, d.host)
	if err != nil {
		return err
	}
	up, err := ps.Join(upTopic)
	if err != nil {
		return err
	}
	down, err := ps.Join(downTopic)
	if err != nil {
		return err
	}
	sub, err := down.Subscribe(pubsub.WithBufferSize(4 * messages))
	if err != nil {
		return err
	}
	for len(up.ListPeers()) == 0 {
		select {
		case <-ctx.Done():
			return errors.New("the listener is not in the topic")
		case <-time.After(10 * time.Millisecond):
		}
	}
	for n := range messages {
		if err := up.Publish(ctx, fmt.Appendf(nil, "message %d", n)); err != nil {
			return err
		}
	}
	seen := make(map[string]bool)
	for len(seen) < messages {
		message, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("%d of %d messages came back: %w", len(seen), messages, err)
		}
		if seen[string(message.Data)] {
			return fmt.Errorf("%q came back twice", message.Data)
		}
		seen[string(message.Data)] = true
	}
	return nil
}
