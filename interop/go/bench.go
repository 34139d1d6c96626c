package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// The peer of ../../bench, by its command line: what is done, timed and printed is what bench/peer.py does.
//
//	peer bench listen
//	peer bench dial ADDR bench WHAT N ...    connect N, rtt N, streams N, upload BYTES, download BYTES

const (
	inFlight = 64
	settle   = 10 * time.Millisecond
)

type bench struct {
	host   host.Host
	remote peer.AddrInfo
}

func runBench(arguments []string) error {
	switch {
	case len(arguments) == 1 && arguments[0] == "listen":
		return benchListen()
	case len(arguments) >= 5 && arguments[0] == "dial" && arguments[2] == "bench" && len(arguments)%2 == 1:
		if err := benchDial(arguments[1], arguments[3:]); err != nil {
			say(map[string]any{"ok": false, "error": err.Error()})
			return err
		}
		return nil
	}
	return fmt.Errorf("usage: peer bench listen | dial ADDR bench WHAT N ...")
}

func benchListen() error {
	addr, err := listenAddr(os.Getenv("TRANSPORT"), "127.0.0.1")
	if err != nil {
		return err
	}
	h, err := newHost(addr)
	if err != nil {
		return err
	}
	defer h.Close()
	serve(h)
	addrs := []string{}
	for _, addr := range h.Addrs() {
		addrs = append(addrs, fmt.Sprintf("%s/p2p/%s", addr, h.ID()))
	}
	say(map[string]any{"ready": true, "addrs": addrs})
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func benchDial(address string, wanted []string) error {
	addr, err := ma.NewMultiaddr(address)
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
	h.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.PermanentAddrTTL)
	b := &bench{h, *info}
	for place := 0; place+1 < len(wanted); place += 2 {
		count, err := strconv.Atoi(wanted[place+1])
		if err != nil {
			return err
		}
		if err := h.Connect(context.Background(), *info); err != nil {
			return err
		}
		key, value, err := b.measure(wanted[place], count)
		if err != nil {
			return err
		}
		say(map[string]any{"what": wanted[place], "ok": true, "count": count, key: value})
	}
	return nil
}

func (b *bench) measure(what string, count int) (string, float64, error) {
	switch what {
	case "connect":
		value, err := b.connect(count)
		return "connect_ms", value, err
	case "rtt":
		value, err := median(count, b.echoByte)
		return "rtt_ms", value, err
	case "streams":
		value, err := b.streams(count)
		return "streams_per_s", value, err
	case "upload":
		value, err := b.bulk(uint64(count), 0)
		return "upload_mb_per_s", value, err
	case "download":
		value, err := b.bulk(0, uint64(count))
		return "download_mb_per_s", value, err
	}
	return "", 0, fmt.Errorf("no measure %q", what)
}

func (b *bench) connect(count int) (float64, error) {
	network, id := b.host.Network(), b.remote.ID
	if err := network.ClosePeer(id); err != nil {
		return 0, err
	}
	var times []float64
	for turn := -count/10 - 1; turn < count; turn++ {
		time.Sleep(settle)
		start := time.Now()
		if _, err := network.DialPeer(context.Background(), id); err != nil {
			return 0, err
		}
		if turn >= 0 {
			times = append(times, milliseconds(time.Since(start)))
		}
		time.Sleep(settle)
		if err := network.ClosePeer(id); err != nil {
			return 0, err
		}
	}
	return middle(times), nil
}

// median is that of the milliseconds that work takes, which is done a tenth as often before it counts.
func median(count int, work func() error) (float64, error) {
	var times []float64
	for turn := -count/10 - 1; turn < count; turn++ {
		start := time.Now()
		if err := work(); err != nil {
			return 0, err
		}
		if turn >= 0 {
			times = append(times, milliseconds(time.Since(start)))
		}
	}
	return middle(times), nil
}

func (b *bench) echoByte() error {
	s, err := b.host.NewStream(context.Background(), b.remote.ID, echoID)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Write([]byte{0}); err != nil {
		return err
	}
	_, err = io.ReadFull(s, make([]byte, 1))
	return err
}

func (b *bench) streams(count int) (float64, error) {
	if err := b.atOnce(count / 10); err != nil {
		return 0, err
	}
	start := time.Now()
	err := b.atOnce(count)
	return float64(count) / time.Since(start).Seconds(), err
}

func (b *bench) atOnce(count int) error {
	turns := make(chan struct{}, count)
	for range count {
		turns <- struct{}{}
	}
	close(turns)
	errors := make(chan error, inFlight)
	var group sync.WaitGroup
	for range inFlight {
		group.Add(1)
		go func() {
			defer group.Done()
			for range turns {
				if err := b.echoByte(); err != nil {
					errors <- err
					return
				}
			}
		}()
	}
	group.Wait()
	close(errors)
	return <-errors
}

// bulk is in MB/s, of upload or download bytes on one stream; a tenth of them first, to warm up.
func (b *bench) bulk(upload, download uint64) (float64, error) {
	if err := b.perf(upload/10, download/10); err != nil {
		return 0, err
	}
	start := time.Now()
	err := b.perf(upload, download)
	return float64(upload+download) / 1e6 / time.Since(start).Seconds(), err
}

func (b *bench) perf(upload, download uint64) error {
	s, err := b.host.NewStream(context.Background(), b.remote.ID, perfID)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := binary.Write(s, binary.BigEndian, download); err != nil {
		return err
	}
	if err := writeZeros(s, upload); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	received, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{s}, make([]byte, 1<<18))
	if err == nil && uint64(received) != download {
		err = fmt.Errorf("%d of %d bytes came", received, download)
	}
	return err
}

func writeZeros(to io.Writer, count uint64) error {
	block := make([]byte, 1<<18)
	for count > 0 {
		piece := block[:min(count, uint64(len(block)))]
		if _, err := to.Write(piece); err != nil {
			return err
		}
		count -= uint64(len(piece))
	}
	return nil
}

func middle(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}

func say(line map[string]any) {
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}
