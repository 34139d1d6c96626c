// A server of go-libp2p-kad-dht that does what it is told on stdin, one command a line, and ends with it. ../README.md
// has the commands.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// largest takes any value under /v/; the largest is the best.
type largest struct{}

func (largest) Validate(_ string, value []byte) error {
	if strings.HasPrefix(string(value), "bad") {
		return fmt.Errorf("a bad value")
	}
	return nil
}

func (largest) Select(_ string, values [][]byte) (int, error) {
	best := 0
	for i, value := range values {
		if string(value) > string(values[best]) {
			best = i
		}
	}
	return best, nil
}

// found takes down whom mDNS finds.
type found chan peer.AddrInfo

func (peers found) HandlePeerFound(info peer.AddrInfo) { peers <- info }

// wait returns when mDNS has found a peer.
func (peers found) wait(ctx context.Context, words []string) error {
	for {
		select {
		case info := <-peers:
			if info.ID.String() == words[1] {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func main() {
	host, err := libp2p.New(libp2p.ListenAddrStrings(os.Args[1]))
	check(err)
	node, err := dht.New(host, dht.Mode(dht.ModeServer), dht.ProtocolPrefix("/interop"),
		dht.NamespacedValidator("v", largest{}))
	check(err)
	fmt.Printf("%s/p2p/%s\n", host.Addrs()[0], host.ID())
	around := make(found, 16)
	if len(os.Args) > 2 && os.Args[2] == "mdns" {
		check(mdns.NewMdnsService(host, "", around).Start())
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		words := strings.Fields(lines.Text())
		run := func() error { return do(ctx, node, words) }
		if len(words) > 1 && words[0] == "found" {
			run = func() error { return around.wait(ctx, words) }
		}
		if err := run(); err != nil {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		cancel()
		fmt.Println("done")
	}
}

func do(ctx context.Context, node *dht.IpfsDHT, words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("what is %q?", words)
	}
	switch words[0] {
	case "connect":
		info, err := peer.AddrInfoFromString(words[1])
		if err != nil {
			return err
		}
		if err := node.Host().Connect(ctx, *info); err != nil {
			return err
		}
		for node.RoutingTable().Size() == 0 && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		return <-node.RefreshRoutingTable()
	case "provide", "find-providers":
		id, err := cid.Decode(words[1])
		if err != nil {
			return err
		}
		if words[0] == "provide" {
			return node.Provide(ctx, id, true)
		}
		for info := range node.FindProvidersAsync(ctx, id, 1) {
			fmt.Println(info.ID)
		}
		return nil
	case "put", "get":
		key, err := hex.DecodeString(words[1])
		if err != nil {
			return err
		}
		if words[0] == "put" {
			value, err := hex.DecodeString(words[2])
			if err != nil {
				return err
			}
			return node.PutValue(ctx, string(key), value)
		}
		value, err := node.GetValue(ctx, string(key))
		if err != nil {
			return err
		}
		fmt.Println(hex.EncodeToString(value))
		return nil
	case "find-peer":
		id, err := peer.Decode(words[1])
		if err != nil {
			return err
		}
		info, err := node.FindPeer(ctx, id)
		if err != nil {
			return err
		}
		for _, addr := range info.Addrs {
			fmt.Println(addr)
		}
		return nil
	}
	return fmt.Errorf("what is %q?", words[0])
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
