package main

// A pubsub node that another program commands: ../README.md, "In one pubsub network".

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p-pubsub/partialmessages"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

type nodeOptions struct {
	NoMesh  bool // only gossip
	PX      bool // prunes offer peers
	HashIDs bool // ids are the SHA-256 of the data
	Delay   int  // ms of validation
	Partial bool
	NoSign  bool // messages are anonymous
	Quiet   bool // nothing is told of messages
}

type nodeCommand struct {
	Do      string
	Addr    string
	Topic   string
	First   int
	Count   int
	Size    int
	Peers   int
	Message string // hexadecimal
	Parts   string // hexadecimal
	Group   string
}

type scriptedNode struct {
	host    host.Host
	ps      *pubsub.PubSub
	options nodeOptions
	mu      sync.Mutex
	topics  map[string]*pubsub.Topic
}

type nothing struct{}

// say prints a line for whoever commands.
func (n *scriptedNode) say(line map[string]any) {
	text, _ := json.Marshal(line)
	n.mu.Lock()
	defer n.mu.Unlock()
	os.Stdout.Write(append(text, '\n'))
}

func runPubSubNode(args []string) error {
	n := &scriptedNode{topics: make(map[string]*pubsub.Topic)}
	if err := json.Unmarshal([]byte(args[0]), &n.options); err != nil {
		return err
	}
	addr, err := listenAddr(os.Getenv("TRANSPORT"), "127.0.0.1")
	if err != nil {
		return err
	}
	if n.host, err = newHost(addr); err != nil {
		return err
	}
	defer n.host.Close()
	ctx := context.Background()
	if n.ps, err = pubsub.NewGossipSub(ctx, n.host, n.pubsubOptions()...); err != nil {
		return err
	}
	n.say(map[string]any{"addr": fmt.Sprintf("%s/p2p/%s", n.host.Addrs()[0], n.host.ID())})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var command nodeCommand
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			return err
		}
		if err := n.act(ctx, command); err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
	}
	return lines.Err()
}

func (n *scriptedNode) pubsubOptions() []pubsub.Option {
	options := []pubsub.Option{
		pubsub.WithPeerOutboundQueueSize(4 * messages), // it drops what is beyond 32 otherwise
		pubsub.WithValidateQueueSize(4 * messages),
		pubsub.WithValidateThrottle(16 * messages),
		pubsub.WithPeerExchange(n.options.PX),
	}
	if n.options.Delay > 0 {
		options = append(options, pubsub.WithDefaultValidator(func(context.Context, peer.ID, *pubsub.Message) bool {
			time.Sleep(time.Duration(n.options.Delay) * time.Millisecond)
			return true
		}, pubsub.WithValidatorConcurrency(4*messages)))
	}
	if n.options.NoSign {
		options = append(options, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor())
	}
	if n.options.NoMesh {
		params := pubsub.DefaultGossipSubParams()
		params.D, params.Dlo, params.Dhi, params.Dscore, params.Dout = 0, 0, 0, 0, 0
		options = append(options, pubsub.WithGossipSubParams(params))
	}
	if n.options.HashIDs {
		options = append(options, pubsub.WithMessageIdFn(func(m *pb.Message) string {
			sum := sha256.Sum256(m.GetData())
			return string(sum[:])
		}))
	}
	if n.options.Partial {
		options = append(options, pubsub.WithPartialMessagesExtension(&partialmessages.PartialMessagesExtension[nothing]{
			Logger:       slog.New(slog.DiscardHandler),
			OnEmitGossip: func(string, []byte, []peer.ID, map[peer.ID]nothing) {},
			OnIncomingRPC: func(from peer.ID, _ map[peer.ID]nothing, rpc *pb.PartialMessagesExtension) error {
				n.say(map[string]any{
					"part": rpc.GetTopicID(), "group": string(rpc.GetGroupID()), "from": from.String(),
					"message": hex.EncodeToString(rpc.GetPartialMessage()), "parts": hex.EncodeToString(rpc.GetPartsMetadata()),
				})
				return nil
			},
		}))
	}
	return options
}

func (n *scriptedNode) topic(name string) (*pubsub.Topic, error) {
	if topic, ok := n.topics[name]; ok {
		return topic, nil
	}
	var options []pubsub.TopicOpt
	if n.options.Partial {
		options = append(options, pubsub.RequestPartialMessages())
	}
	topic, err := n.ps.Join(name, options...)
	n.topics[name] = topic
	return topic, err
}

func (n *scriptedNode) act(ctx context.Context, command nodeCommand) error {
	if command.Do == "connect" {
		addr, err := ma.NewMultiaddr(command.Addr)
		if err != nil {
			return err
		}
		info, err := peer.AddrInfoFromP2pAddr(addr)
		if err != nil {
			return err
		}
		return n.host.Connect(ctx, *info)
	}
	topic, err := n.topic(command.Topic)
	if err != nil {
		return err
	}
	switch command.Do {
	case "subscribe":
		sub, err := topic.Subscribe(pubsub.WithBufferSize(4 * messages))
		if err != nil {
			return err
		}
		go n.listenTo(ctx, sub)
		return nil
	case "wait":
		for len(topic.ListPeers()) < command.Peers {
			time.Sleep(5 * time.Millisecond)
		}
		n.say(map[string]any{"waited": command.Topic})
		return nil
	case "publish":
		for number := command.First; number < command.First+command.Count; number++ {
			data := []byte(strconv.Itoa(number))
			if more := command.Size - len(data); more > 0 {
				data = append(data, bytes.Repeat([]byte("."), more)...)
			}
			if err := topic.Publish(ctx, data); err != nil {
				return err
			}
		}
		n.say(map[string]any{"published": command.Topic})
		return nil
	case "part":
		return n.publishPart(command)
	}
	return errors.New("no such command")
}

func (n *scriptedNode) listenTo(ctx context.Context, sub *pubsub.Subscription) {
	for {
		message, err := sub.Next(ctx)
		if err != nil {
			return
		}
		if !n.options.Quiet && message.ReceivedFrom != n.host.ID() {
			number := strings.TrimRight(string(message.Data), ".")
			n.say(map[string]any{"got": sub.Topic(), "n": number, "from": message.ReceivedFrom.String()})
		}
	}
}

// publishPart sends a part, and what parts there are, to each peer of the mesh.
func (n *scriptedNode) publishPart(command nodeCommand) error {
	message, err := hex.DecodeString(command.Message)
	if err != nil {
		return err
	}
	parts, err := hex.DecodeString(command.Parts)
	if err != nil {
		return err
	}
	actions := func(states map[peer.ID]nothing, wants func(peer.ID) bool) iter.Seq2[peer.ID, partialmessages.PublishAction] {
		return func(yield func(peer.ID, partialmessages.PublishAction) bool) {
			for id := range states {
				action := partialmessages.PublishAction{EncodedPartsMetadata: parts}
				if wants(id) {
					action.EncodedPartialMessage = message
				}
				if !yield(id, action) {
					return
				}
			}
		}
	}
	return pubsub.PublishPartial(n.ps, command.Topic, []byte(command.Group), actions)
}
