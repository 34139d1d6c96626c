// The go-libp2p peer that py-libp2p is tested against. ../README.md says what it is told and what it answers.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const patience = 60 * time.Second // for the other side to come up, and for connecting

func main() {
	run := listen
	switch {
	case len(os.Args) > 1 && os.Args[1] == "relay":
		run = func() error { return runRelay(os.Args[2:]) }
	case len(os.Args) > 2 && os.Args[1] == "pubsub":
		run = func() error { return runPubSubNode(os.Args[2:]) }
	case len(os.Args) > 1 && os.Args[1] == "bench":
		run = func() error { return runBench(os.Args[2:]) }
	case os.Getenv("IS_DIALER") == "true":
		run = dial
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newHost(listenOn ...string) (host.Host, error) {
	transport, err := transportOptions(os.Getenv("TRANSPORT"), os.Getenv("SECURE_CHANNEL"), os.Getenv("MUXER"))
	if err != nil {
		return nil, err
	}
	return libp2p.New(append(transport,
		libp2p.ListenAddrStrings(listenOn...),
		libp2p.ResourceManager(&network.NullResourceManager{}), // 200 streams at once are not an attack here
		libp2p.DisableRelay(),
	)...)
}

func listen() error {
	addr, err := listenAddr(os.Getenv("TRANSPORT"), os.Getenv("LISTENER_IP"))
	if err != nil {
		return err
	}
	h, err := newHost(addr)
	if err != nil {
		return err
	}
	defer h.Close()
	serve(h)
	if err := servePubSub(context.Background(), h); err != nil {
		return err
	}
	if len(h.Addrs()) == 0 {
		return fmt.Errorf("not listening on %s", addr)
	}
	if _, err := redis("RPUSH", redisKey(), fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	return nil
}

func dial() error {
	answer, err := redis("BLPOP", redisKey(), fmt.Sprint(int(patience.Seconds())))
	if err != nil {
		return err
	}
	addr, err := ma.NewMultiaddr(answer)
	if err != nil {
		return err
	}
	info, err := peer.AddrInfoFromP2pAddr(addr)
	if err != nil {
		return err
	}
	h, err := newHost()
	if err != nil {
		return err
	}
	defer h.Close()
	identified, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	if err := h.Connect(ctx, *info); err != nil {
		return fmt.Errorf("cannot connect: %w", err)
	}
	pong := <-ping.Ping(ctx, h, info.ID)
	if pong.Error != nil {
		return fmt.Errorf("ping: %w", pong.Error)
	}
	fmt.Printf("latency:\n  handshake_plus_one_rtt: %.3f\n  ping_rtt: %.3f\n  unit: ms\n",
		milliseconds(time.Since(start)), milliseconds(pong.RTT))
	return runChecks(&dialer{h, *info, identified})
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// runChecks runs those that CHECKS names, one after the other, and prints how each went.
func runChecks(d *dialer) error {
	names := strings.FieldsFunc(os.Getenv("CHECKS"), func(r rune) bool { return r == ',' })
	if len(names) == 0 {
		return nil
	}
	fmt.Println("checks:")
	failed := 0
	for _, name := range names {
		verdict := "ok"
		if err := d.check(name); err != nil {
			failed++
			verdict = "fail: " + err.Error()
		}
		text, _ := json.Marshal(verdict) // which is YAML too
		fmt.Printf("  %s: %s\n", name, text)
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}
