package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// runRelay plays one part of a triangle until its input ends:
//
//	relay server          prints its address
//	relay listen ADDR     reserves at the relay ADDR, prints its address through it
//	relay dial ADDR       connects to ADDR, which leads through a relay, and prints what /echo/1.0.0 has answered
func runRelay(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if len(args) == 0 {
		return fmt.Errorf("relay server, relay listen ADDR or relay dial ADDR")
	}
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.EnableRelay())
	if err != nil {
		return err
	}
	defer h.Close()
	serve(h)
	switch {
	case args[0] == "server":
		if _, err := relay.New(h); err != nil {
			return err
		}
		fmt.Printf("%s/p2p/%s\n", h.Addrs()[0], h.ID())
	case len(args) == 2 && args[0] == "listen":
		info, err := peer.AddrInfoFromString(args[1])
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
		if reservation.Voucher == nil || time.Until(reservation.Expiration) < time.Minute {
			return fmt.Errorf("a reservation without a voucher, or too short: %+v", reservation)
		}
		fmt.Printf("%s/p2p-circuit/p2p/%s\n", args[1], h.ID())
	case len(args) == 2 && args[0] == "dial":
		answer, err := askThrough(ctx, h, args[1])
		if err != nil {
			return err
		}
		fmt.Println(answer)
	default:
		return fmt.Errorf("no such part: %v", args)
	}
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	if err == io.EOF {
		return nil
	}
	return err
}

func askThrough(ctx context.Context, h host.Host, addr string) (string, error) {
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return "", err
	}
	ctx = network.WithAllowLimitedConn(ctx, "interop")
	if err := h.Connect(ctx, *info); err != nil {
		return "", err
	}
	stream, err := h.NewStream(ctx, info.ID, echoID)
	if err != nil {
		return "", err
	}
	if !stream.Conn().Stat().Limited {
		return "", fmt.Errorf("the connection is not limited")
	}
	if _, err := io.WriteString(stream, "through the relay"); err != nil {
		return "", err
	}
	if err := stream.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(stream)
	return string(answer), err
}
