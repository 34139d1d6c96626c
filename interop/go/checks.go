package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/sync/errgroup"
)

const (
	checkTime = 30 * time.Second
	notedTime = 5 * time.Second                                        // for an end or a reset to come through
	someoneID = "12D3KooWSahP5pFRCEfaziPEba7urXGeif6T1y8jmodzdFUvzBHj" // a peer that nobody here is
)

type dialer struct {
	host       host.Host
	listener   peer.AddrInfo
	identified event.Subscription
}

func (d *dialer) check(name string) error {
	run, ok := map[string]func(context.Context) error{
		"identify":      d.identify,
		"echo":          d.echo,
		"streams":       d.streams,
		"half-close":    d.halfClose,
		"reset":         d.reset,
		"unsupported":   d.unsupported,
		"wrong-peer":    d.wrongPeer,
		"slow-listener": d.slowListener,
		"slow-dialer":   d.slowDialer,
		"pubsub":        d.pubsubCheck,
	}[name]
	if !ok {
		return errors.New("no such check")
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	return run(ctx)
}

func (d *dialer) open(ctx context.Context, id protocol.ID) (network.Stream, error) {
	s, err := d.host.NewStream(ctx, d.listener.ID, id)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	return s, s.SetDeadline(deadline)
}

func (d *dialer) identify(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return errors.New("not identified")
		case next := <-d.identified.Out():
			seen := next.(event.EvtPeerIdentificationCompleted)
			if seen.Peer != d.listener.ID {
				continue
			}
			return judge(seen)
		}
	}
}

func judge(seen event.EvtPeerIdentificationCompleted) error {
	if seen.AgentVersion == "" {
		return errors.New("no agent version")
	}
	for _, id := range []protocol.ID{ping.ID, echoID} {
		if !slices.Contains(seen.Protocols, id) {
			return fmt.Errorf("%s is not among %v", id, seen.Protocols)
		}
	}
	if seen.ObservedAddr == nil {
		return errors.New("no observed address")
	}
	local, observed := seen.Conn.LocalMultiaddr(), seen.ObservedAddr
	if fmt.Sprint(local[1]) != fmt.Sprint(observed[1]) || manet.IsIPUnspecified(observed) {
		return fmt.Errorf("observed at %s, but at %s", observed, local)
	}
	return nil
}

// echoed sends bytes through the echo and has `read` take what comes back.
func (d *dialer) echoed(ctx context.Context, size int, read func(io.Reader, io.Writer) error) error {
	s, err := d.open(ctx, echoID)
	if err != nil {
		return err
	}
	defer s.Reset()
	sent, got := sha256.New(), sha256.New()
	var group errgroup.Group
	group.Go(func() error {
		if _, err := io.CopyN(io.MultiWriter(s, sent), rand.Reader, int64(size)); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		return s.CloseWrite()
	})
	if err := read(s, got); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		return errors.New("other bytes came back than were sent")
	}
	return s.Close()
}

func readAll(from io.Reader, to io.Writer) error {
	_, err := io.Copy(to, from)
	return err
}

func (d *dialer) echo(ctx context.Context) error { return d.echoed(ctx, 1<<20, readAll) }

func (d *dialer) slowDialer(ctx context.Context) error {
	return d.echoed(ctx, 10<<20, func(from io.Reader, to io.Writer) error {
		return readSlowly(from, to, time.Second)
	})
}

func (d *dialer) slowListener(ctx context.Context) error {
	s, err := d.open(ctx, slowReadID)
	if err != nil {
		return err
	}
	defer s.Reset()
	if err := binary.Write(s, binary.BigEndian, uint32(1000)); err != nil {
		return err
	}
	sent := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(s, sent), rand.Reader, 10<<20); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(s)
	if err == nil && !bytes.Equal(answer, sent.Sum(nil)) {
		return errors.New("other bytes arrived than were sent")
	}
	return err
}

// streams holds all streams open until each has had its echo.
func (d *dialer) streams(ctx context.Context) error {
	const count = 200
	all := make([]network.Stream, count)
	var group errgroup.Group
	for i := range all {
		group.Go(func() error {
			s, err := d.open(ctx, echoID)
			if err != nil {
				return err
			}
			all[i] = s
			data := fmt.Appendf(nil, "stream %d", i)
			if _, err := s.Write(data); err != nil {
				return err
			}
			answer := make([]byte, len(data))
			if _, err := io.ReadFull(s, answer); err != nil {
				return err
			}
			if !bytes.Equal(answer, data) {
				return fmt.Errorf("%q came back on stream %d", answer, i)
			}
			return nil
		})
	}
	err := group.Wait()
	for _, s := range all {
		if s != nil {
			s.Close()
		}
	}
	return err
}

// halfClose ends the dialer's direction first, on perf; then has the listener end its own first.
func (d *dialer) halfClose(ctx context.Context) error {
	s, err := d.open(ctx, perfID)
	if err != nil {
		return err
	}
	defer s.Reset()
	if err := binary.Write(s, binary.BigEndian, uint64(1<<20)); err != nil {
		return err
	}
	if _, err := io.CopyN(s, zeros{}, 1<<20); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, s); err != nil || n != 1<<20 {
		return fmt.Errorf("%d bytes came behind our end: %w", n, err)
	}
	return d.listenerEndsFirst(ctx)
}

func (d *dialer) listenerEndsFirst(ctx context.Context) error {
	s, err := d.open(ctx, halfCloseID)
	if err != nil {
		return err
	}
	defer s.Reset()
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("no end of the listener's direction: %w", err)
	}
	digest := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(s, digest), rand.Reader, 1<<16); err != nil {
		return fmt.Errorf("writing behind the listener's end: %w", err)
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	return d.awaitNote(ctx, fmt.Sprintf("end %x\n", digest.Sum(nil)))
}

// awaitNote asks the listener what it saw, until it has seen this.
func (d *dialer) awaitNote(ctx context.Context, line string) error {
	for end := time.Now().Add(notedTime); ; time.Sleep(100 * time.Millisecond) {
		s, err := d.open(ctx, seenID)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(s)
		s.Close()
		if err != nil {
			return err
		}
		if bytes.Contains(text, []byte(line)) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the listener did not see %q, but %q", line, text)
		}
	}
}

// reset resets a stream in the middle of data, then has the listener reset one; the connection goes on.
func (d *dialer) reset(ctx context.Context) error {
	s, err := d.openForReset(ctx, 'd')
	if err != nil {
		return err
	}
	if _, err := s.Write(make([]byte, 10_000)); err != nil {
		return err
	}
	if err := s.Reset(); err != nil {
		return err
	}
	if err := d.awaitNote(ctx, "reset\n"); err != nil {
		return err
	}
	if s, err = d.openForReset(ctx, 'l'); err != nil {
		return err
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		return fmt.Errorf("the listener reset the stream, which shows as: %v", err)
	}
	return d.echo(ctx)
}

func (d *dialer) openForReset(ctx context.Context, who byte) (network.Stream, error) {
	s, err := d.open(ctx, resetID)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte{who}); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(s, make([]byte, 1))
	return s, err
}

func (d *dialer) unsupported(ctx context.Context) error {
	s, err := d.open(ctx, "/no/such/protocol")
	if err == nil {
		s.Reset()
		return errors.New("the stream was opened")
	}
	if !strings.Contains(err.Error(), "protocols not supported") {
		return err
	}
	return d.echo(ctx)
}

func (d *dialer) wrongPeer(ctx context.Context) error {
	someone, err := peer.Decode(someoneID)
	if err != nil {
		return err
	}
	err = d.host.Connect(ctx, peer.AddrInfo{ID: someone, Addrs: d.listener.Addrs})
	if err == nil {
		return errors.New("the listener passed for somebody else")
	}
	if !strings.Contains(err.Error(), "peer id mismatch") {
		return err
	}
	return d.echo(ctx)
}
