package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

// runRelay plays a part of a triangle, or of a question to AutoNAT, until its input ends. ../README.md has the contract.
func runRelay(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(args) < 2 {
		return fmt.Errorf("relay server LISTEN, or relay listen, dial, check-v1 or check-v2 ADDR LISTEN")
	}
	part, listen := args[0], args[len(args)-1]
	options := []libp2p.Option{libp2p.ListenAddrStrings(listen), libp2p.EnableRelay()}
	switch part {
	case "server", "server-unlimited":
		options = append(options, libp2p.ForceReachabilityPublic(), libp2p.EnableNATService(), libp2p.EnableAutoNATv2())
	case "listen", "dial":
		options = append(options, libp2p.ForceReachabilityPrivate(), libp2p.EnableHolePunching(holepunch.WithTracer(punches{})))
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return err
	}
	defer h.Close()
	serve(h)
	h.Network().Notify(new(ways))
	switch {
	case strings.HasPrefix(part, "server"):
		var limits []relay.Option
		if part == "server-unlimited" {
			limits = append(limits, relay.WithInfiniteLimits())
		}
		if _, err := relay.New(h, limits...); err != nil {
			return err
		}
		fmt.Printf("%s/p2p/%s\n", h.Addrs()[0], h.ID())
	case len(args) != 3:
		return fmt.Errorf("relay %s ADDR LISTEN", part)
	case part == "listen":
		err = listenAt(ctx, h, args[1])
	case part == "dial":
		err = dialThrough(ctx, h, args[1])
	case part == "pour":
		err = pour(ctx, h, args[1])
	case part == "check-v1":
		err = checkV1(ctx, h, args[1])
	case part == "check-v2":
		err = checkV2(ctx, h, args[1])
	default:
		return fmt.Errorf("no such part: %v", args)
	}
	if err != nil {
		return err
	}
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	if err == io.EOF {
		return nil
	}
	return err
}

func listenAt(ctx context.Context, h host.Host, relayAddr string) error {
	info, err := peer.AddrInfoFromString(relayAddr)
	if err != nil {
		return err
	}
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	reservation, err := client.Reserve(ctx, h, *info)
	if err != nil {
		return err
	}
	if time.Until(reservation.Expiration) < time.Minute {
		return fmt.Errorf("the reservation is too short: %+v", reservation)
	}
	fmt.Printf("%s/p2p-circuit/p2p/%s\n", relayAddr, h.ID())
	return nil
}

// dialThrough has the relay say where it sees us before the peer is dialed: a punch needs that.
func dialThrough(ctx context.Context, h host.Host, addr string) error {
	if relayAddr, _, relayed := strings.Cut(addr, "/p2p-circuit"); relayed {
		info, err := peer.AddrInfoFromString(relayAddr)
		if err != nil {
			return err
		}
		if err := h.Connect(ctx, *info); err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond) // the hole punch service looks for an address every 250 ms
	}
	stream, err := reach(ctx, h, addr, echoID)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stream, "through the relay"); err != nil {
		return err
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(stream)
	fmt.Println(string(answer))
	return err
}

// reach opens a stream to the peer at addr, through the relay too.
func reach(ctx context.Context, h host.Host, addr string, id protocol.ID) (network.Stream, error) {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return nil, err
	}
	ctx = network.WithAllowLimitedConn(ctx, "interop")
	if err := h.Connect(ctx, *info); err != nil {
		return nil, err
	}
	return h.NewStream(ctx, info.ID, id)
}

const poured = 64 << 20

// pour sends 64 MiB to the peer through the relay, and prints how many MiB a second that were.
func pour(ctx context.Context, h host.Host, addr string) error {
	stream, err := reach(ctx, h, addr, perfID)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := binary.Write(stream, binary.BigEndian, uint64(1)); err != nil {
		return err
	}
	if _, err := io.CopyN(stream, zeros{}, poured); err != nil {
		return err
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	if _, err := io.ReadAll(stream); err != nil { // the peer answers when it has all
		return err
	}
	fmt.Printf("poured %.1f\n", poured/float64(1<<20)/time.Since(start).Seconds())
	return nil
}

// checkV1 prints what the servers of AutoNAT v1 among our peers have found. The first question comes after 15 s.
func checkV1(ctx context.Context, h host.Host, server string) error {
	found, err := h.EventBus().Subscribe(new(event.EvtLocalReachabilityChanged))
	if err != nil {
		return err
	}
	info, err := peer.AddrInfoFromString(server)
	if err != nil {
		return err
	}
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	go func() {
		for told := range found.Out() {
			switch told.(event.EvtLocalReachabilityChanged).Reachability {
			case network.ReachabilityPublic:
				fmt.Println("reachable")
			case network.ReachabilityPrivate:
				fmt.Println("unreachable")
			}
		}
	}()
	return nil
}

// checkV2 asks about the address that the server sees us at.
func checkV2(ctx context.Context, h host.Host, server string) error {
	identified, err := h.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return err
	}
	back, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return err
	}
	asking, err := autonatv2.New(back)
	if err != nil {
		return err
	}
	if err := asking.Start(h); err != nil {
		return err
	}
	info, err := peer.AddrInfoFromString(server)
	if err != nil {
		return err
	}
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	told := (<-identified.Out()).(event.EvtPeerIdentificationCompleted)
	var result autonatv2.Result
	for range 50 { // until the peer is known to be a server
		ask := []autonatv2.Request{{Addr: told.ObservedAddr, SendDialData: true}}
		result, err = asking.GetReachability(ctx, ask)
		if err != autonatv2.ErrNoPeers {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	if result.Reachability == network.ReachabilityPublic {
		fmt.Println("reachable", result.Addr)
	} else {
		fmt.Println("unreachable", result.Addr)
	}
	return nil
}

// ways tells how long it has taken from a relayed connection to a direct one.
type ways struct {
	mutex   sync.Mutex
	relayed map[peer.ID]time.Time
}

func (w *ways) Connected(_ network.Network, c network.Conn) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.relayed == nil {
		w.relayed = make(map[peer.ID]time.Time)
	}
	since, known := w.relayed[c.RemotePeer()]
	_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
	switch isRelayed := err == nil; {
	case isRelayed && !known:
		w.relayed[c.RemotePeer()] = time.Now()
	case !isRelayed && known:
		fmt.Printf("direct %s %.1f\n", c.RemoteMultiaddr(), milliseconds(time.Since(since)))
	}
}

func (w *ways) Disconnected(_ network.Network, c network.Conn) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	delete(w.relayed, c.RemotePeer())
}

func (w *ways) Listen(network.Network, ma.Multiaddr)      {}
func (w *ways) ListenClose(network.Network, ma.Multiaddr) {}

// punches tells of each attempt, and of the end that led nowhere.
type punches struct{}

func (punches) Trace(told *holepunch.Event) {
	switch event := told.Evt.(type) {
	case *holepunch.HolePunchAttemptEvt:
		fmt.Println("attempt", event.Attempt)
	case *holepunch.EndHolePunchEvt:
		if !event.Success {
			fmt.Println("relayed", strings.ReplaceAll(event.Error, "\n", "; "))
		}
	}
}
