package pubsubvectors

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	_ "unsafe" // for the names below

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

var rpcsOut = flag.String("rpcs", "", "where RPCs and signed messages go")

//go:linkname signMessage github.com/libp2p/go-libp2p-pubsub.signMessage
func signMessage(pid peer.ID, key crypto.PrivKey, m *pb.Message) error

func rpcs() map[string]*pb.RPC {
	p, yes, no := proto.String, proto.Bool(true), proto.Bool(false)
	control := func(c *pb.ControlMessage) *pb.RPC { return &pb.RPC{Control: c} }
	return map[string]*pb.RPC{
		"subscriptions": {Subscriptions: []*pb.RPC_SubOpts{
			{Subscribe: yes, Topicid: p("topi")}, {Subscribe: no, Topicid: p("topi")},
		}},
		"partial subscription": {Subscriptions: []*pb.RPC_SubOpts{
			{Subscribe: yes, Topicid: p("topi"), RequestsPartial: yes, SupportsSendingPartial: yes},
		}},
		"message": {Publish: []*pb.Message{{
			From: []byte{1, 2}, Data: []byte("data"), Seqno: []byte{0, 0, 0, 0, 0, 0, 0, 7}, Topic: p("topi"),
			Signature: []byte{9}, Key: []byte{8},
		}}},
		"empty data": {Publish: []*pb.Message{{Data: []byte{}, Topic: p("topi")}}},
		"no data":    {Publish: []*pb.Message{{Topic: p("topi")}}},
		"ihave":      control(&pb.ControlMessage{Ihave: []*pb.ControlIHave{{TopicID: p("topi"), MessageIDs: []string{"a", "b"}}}}),
		"iwant":      control(&pb.ControlMessage{Iwant: []*pb.ControlIWant{{MessageIDs: []string{"a", ""}}}}),
		"graft":      control(&pb.ControlMessage{Graft: []*pb.ControlGraft{{TopicID: p("topi")}}}),
		"prune 1.0":  control(&pb.ControlMessage{Prune: []*pb.ControlPrune{{TopicID: p("topi")}}}),
		"prune": control(&pb.ControlMessage{Prune: []*pb.ControlPrune{{
			TopicID: p("topi"), Backoff: proto.Uint64(60),
			Peers: []*pb.PeerInfo{{PeerID: []byte{0xaa}, SignedPeerRecord: []byte{0xbb}}, {PeerID: []byte{0xcc}}},
		}}}),
		"endless prune": control(&pb.ControlMessage{Prune: []*pb.ControlPrune{{TopicID: p("topi"), Backoff: proto.Uint64(^uint64(0))}}}),
		"idontwant":     control(&pb.ControlMessage{Idontwant: []*pb.ControlIDontWant{{MessageIDs: []string{"a", "b"}}}}),
		"extensions":    control(&pb.ControlMessage{Extensions: &pb.ControlExtensions{PartialMessages: yes, TestExtension: yes}}),
		"partial": {Partial: &pb.PartialMessagesExtension{
			TopicID: p("topi"), GroupID: []byte("g"), PartialMessage: []byte("p"), PartsMetadata: []byte("m"),
		}},
		"test": {TestExtension: &pb.TestExtension{}},
	}
}

// TestRPCs writes RPCs, and messages signed by a key of each type; with -rpcs.
func TestRPCs(t *testing.T) {
	golden := map[string]map[string]string{"rpcs": {}, "signed": {}}
	options := proto.MarshalOptions{Deterministic: true}
	for name, rpc := range rpcs() {
		encoded, err := options.Marshal(rpc)
		if err != nil {
			t.Fatal(err)
		}
		golden["rpcs"][name] = hex.EncodeToString(encoded)
	}
	for name, kind := range map[string]int{
		"RSA": crypto.RSA, "ED25519": crypto.Ed25519, "SECP256K1": crypto.Secp256k1, "ECDSA": crypto.ECDSA,
	} {
		key, _, err := crypto.GenerateKeyPairWithReader(kind, 2048, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		m := &pb.Message{From: []byte(id), Data: []byte("data"), Seqno: bytes.Repeat([]byte{7}, 8), Topic: proto.String("topi")}
		if err := signMessage(id, key, m); err != nil {
			t.Fatal(err)
		}
		encoded, err := options.Marshal(&pb.RPC{Publish: []*pb.Message{m}})
		if err != nil {
			t.Fatal(err)
		}
		golden["signed"][name] = hex.EncodeToString(encoded)
	}
	if *rpcsOut != "" {
		text, err := json.MarshalIndent(golden, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*rpcsOut, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
