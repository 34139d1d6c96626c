// Package pubsubvectors records what go-libp2p-pubsub scores its peers in random histories, in virtual time:
//
//	go test ./pubsubvectors -ldflags=-checklinkname=0 -args -out FILE
//
// tests/unit/protocols/pubsub/score_trace.json is what it wrote; our scores must be the same.
package pubsubvectors

import (
	"encoding/json"
	"flag"
	"log/slog"
	"math/rand"
	"os"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

var out = flag.String("out", "", "where the trace goes")

// The scores are not exported; the linker knows them all the same.

//go:linkname newPeerScore github.com/libp2p/go-libp2p-pubsub.newPeerScore
func newPeerScore(params *pubsub.PeerScoreParams, logger *slog.Logger) unsafe.Pointer

//go:linkname scoreOf github.com/libp2p/go-libp2p-pubsub.(*peerScore).Score
func scoreOf(ps unsafe.Pointer, p peer.ID) float64

//go:linkname peerUp github.com/libp2p/go-libp2p-pubsub.(*peerScore).OnNewOutboundStream
func peerUp(ps unsafe.Pointer, p peer.ID, proto protocol.ID)

//go:linkname peerDown github.com/libp2p/go-libp2p-pubsub.(*peerScore).OnClosedOutboundStream
func peerDown(ps unsafe.Pointer, p peer.ID)

//go:linkname graft github.com/libp2p/go-libp2p-pubsub.(*peerScore).Graft
func graft(ps unsafe.Pointer, p peer.ID, topic string)

//go:linkname prune github.com/libp2p/go-libp2p-pubsub.(*peerScore).Prune
func prune(ps unsafe.Pointer, p peer.ID, topic string)

//go:linkname validate github.com/libp2p/go-libp2p-pubsub.(*peerScore).ValidateMessage
func validate(ps unsafe.Pointer, msg *pubsub.Message)

//go:linkname deliver github.com/libp2p/go-libp2p-pubsub.(*peerScore).DeliverMessage
func deliver(ps unsafe.Pointer, msg *pubsub.Message)

//go:linkname reject github.com/libp2p/go-libp2p-pubsub.(*peerScore).RejectMessage
func reject(ps unsafe.Pointer, msg *pubsub.Message, reason string)

//go:linkname duplicate github.com/libp2p/go-libp2p-pubsub.(*peerScore).DuplicateMessage
func duplicate(ps unsafe.Pointer, msg *pubsub.Message)

//go:linkname penalize github.com/libp2p/go-libp2p-pubsub.(*peerScore).AddPenalty
func penalize(ps unsafe.Pointer, p peer.ID, count int)

//go:linkname refresh github.com/libp2p/go-libp2p-pubsub.(*peerScore).refreshScores
func refresh(ps unsafe.Pointer)

type step struct {
	At     float64         `json:"at"` // seconds since the beginning
	Op     string          `json:"op"`
	Peer   int             `json:"peer"`
	Topic  string          `json:"topic,omitempty"`
	Msg    int             `json:"msg,omitempty"`
	Scores map[int]float64 `json:"scores,omitempty"` // those that are not what they were
}

const peers = 6

func params() *pubsub.PeerScoreParams {
	topic := func(weight float64) *pubsub.TopicScoreParams {
		return &pubsub.TopicScoreParams{
			TopicWeight:      weight,
			TimeInMeshWeight: 0.0027, TimeInMeshQuantum: 700 * time.Millisecond, TimeInMeshCap: 30,
			FirstMessageDeliveriesWeight: 0.664, FirstMessageDeliveriesDecay: 0.9916, FirstMessageDeliveriesCap: 15,
			MeshMessageDeliveriesWeight: -0.25, MeshMessageDeliveriesDecay: 0.97, MeshMessageDeliveriesCap: 40,
			MeshMessageDeliveriesThreshold: 6, MeshMessageDeliveriesWindow: 150 * time.Millisecond,
			MeshMessageDeliveriesActivation: 3 * time.Second,
			MeshFailurePenaltyWeight:        -0.25, MeshFailurePenaltyDecay: 0.97,
			InvalidMessageDeliveriesWeight: -99, InvalidMessageDeliveriesDecay: 0.9994,
		}
	}
	return &pubsub.PeerScoreParams{
		Topics:                 map[string]*pubsub.TopicScoreParams{"a": topic(1), "b": topic(0.5)},
		TopicScoreCap:          12,
		AppSpecificScore:       func(p peer.ID) float64 { return float64(p[1]-'0') / 4 },
		AppSpecificWeight:      1.5,
		BehaviourPenaltyWeight: -15.92, BehaviourPenaltyThreshold: 2, BehaviourPenaltyDecay: 0.9857,
		DecayInterval: time.Second, DecayToZero: 0.01, RetainScore: 20 * time.Second,
	}
}

func TestTrace(t *testing.T) {
	var steps []step
	synctest.Test(t, func(t *testing.T) {
		ps := newPeerScore(params(), slog.New(slog.DiscardHandler))
		dice := rand.New(rand.NewSource(1))
		begin, next := time.Now(), time.Now().Add(time.Second)
		name := func(n int) peer.ID { return peer.ID([]byte{'p', byte('0' + n)}) }
		message := func(n, from int, topic string) *pubsub.Message {
			id := []byte{byte(n >> 8), byte(n)}
			return &pubsub.Message{
				Message: &pb.Message{From: []byte("x"), Seqno: id, Topic: &topic}, ReceivedFrom: name(from),
			}
		}
		var last [peers]float64
		record := func(s step) {
			s.At = time.Since(begin).Seconds()
			s.Scores = map[int]float64{}
			for n := range peers {
				if score := scoreOf(ps, name(n)); score != last[n] {
					last[n], s.Scores[n] = score, score
				}
			}
			steps = append(steps, s)
		}
		for n := range peers {
			peerUp(ps, name(n), "")
			record(step{Op: "up", Peer: n})
		}
		topics := map[int]string{}
		for len(steps) < 2000 {
			pause := time.Duration(dice.Intn(120)) * time.Millisecond
			for until := time.Now().Add(pause); !next.After(until); next = next.Add(time.Second) {
				time.Sleep(time.Until(next))
				refresh(ps)
				record(step{Op: "refresh"})
			}
			time.Sleep(time.Duration(dice.Intn(60)) * time.Millisecond)
			s := step{Peer: dice.Intn(peers), Topic: string([]byte{byte('a' + dice.Intn(3))})}
			p := name(s.Peer)
			switch kind := dice.Intn(40); {
			case kind == 0:
				s.Op = "down"
				peerDown(ps, p)
			case kind <= 2:
				s.Op = "up"
				peerUp(ps, p, "")
			case kind <= 6:
				s.Op = "graft"
				graft(ps, p, s.Topic)
			case kind == 7:
				s.Op = "prune"
				prune(ps, p, s.Topic)
			case kind == 8:
				s.Op = "penalize"
				penalize(ps, p, 1)
			case kind == 9:
				s.Op = "invalid"
				if dice.Intn(4) > 0 {
					continue
				}
				reject(ps, message(0, s.Peer, s.Topic), pubsub.RejectInvalidSignature)
			case kind <= 20:
				s.Op, s.Msg = "validating", len(topics)+1
				topics[s.Msg] = s.Topic
				validate(ps, message(s.Msg, s.Peer, s.Topic))
			default:
				if len(topics) == 0 {
					continue
				}
				s.Msg = max(1, len(topics)-dice.Intn(6))
				s.Topic = topics[s.Msg]
				m := message(s.Msg, s.Peer, s.Topic)
				switch {
				case kind <= 27:
					s.Op = "delivered"
					deliver(ps, m)
				case kind == 28 && dice.Intn(5) == 0:
					s.Op = "rejected"
					reject(ps, m, pubsub.RejectValidationFailed)
				case kind == 29:
					s.Op = "ignored"
					reject(ps, m, pubsub.RejectValidationIgnored)
				case kind == 30:
					s.Op = "throttled"
					reject(ps, m, pubsub.RejectValidationThrottled)
				default:
					s.Op = "duplicate"
					duplicate(ps, m)
				}
			}
			record(s)
		}
	})
	if *out != "" {
		text, err := json.Marshal(steps)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*out, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
