package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	echoID      = "/echo/1.0.0"
	perfID      = "/perf/1.0.0"
	slowReadID  = "/interop/slow-read/1.0.0"
	halfCloseID = "/interop/half-close/1.0.0"
	resetID     = "/interop/reset/1.0.0"
	seenID      = "/interop/seen/1.0.0"
)

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// notes is what the listener saw: only a later question can tell whether a reset or an end reached it.
type notes struct {
	mutex sync.Mutex
	lines []string
}

func (n *notes) add(format string, args ...any) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...)+"\n")
}

func (n *notes) String() string {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return strings.Join(n.lines, "")
}

// serve closes a stream when its handler returns, and resets it when that failed.
func serve(h host.Host) {
	seen := new(notes)
	for id, handler := range map[protocol.ID]func(network.Stream) error{
		echoID: func(s network.Stream) error {
			_, err := io.Copy(s, s)
			return err
		},
		perfID:      servePerf,
		slowReadID:  serveSlowRead,
		halfCloseID: seen.serveHalfClose,
		resetID:     seen.serveReset,
		seenID: func(s network.Stream) error {
			_, err := io.WriteString(s, seen.String())
			return err
		},
	} {
		h.SetStreamHandler(id, func(s network.Stream) {
			if err := handler(s); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", id, err)
				s.Reset()
				return
			}
			s.Close()
		})
	}
}

func servePerf(s network.Stream) error {
	var wanted uint64
	if err := binary.Read(s, binary.BigEndian, &wanted); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	return writeZeros(s, wanted)
}

func serveSlowRead(s network.Stream) error {
	var pause uint32
	if err := binary.Read(s, binary.BigEndian, &pause); err != nil {
		return err
	}
	digest := sha256.New()
	if err := readSlowly(s, digest, time.Duration(pause)*time.Millisecond); err != nil {
		return err
	}
	_, err := s.Write(digest.Sum(nil))
	return err
}

// readSlowly first does nothing for a while, then reads to the end, at most 256 KiB each 10 ms.
func readSlowly(from io.Reader, to io.Writer, pause time.Duration) error {
	time.Sleep(pause)
	for {
		if _, err := io.CopyN(to, from, 1<<18); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (n *notes) serveHalfClose(s network.Stream) error {
	if err := s.CloseWrite(); err != nil {
		return err
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, s); err != nil {
		return err
	}
	n.add("end %x", digest.Sum(nil))
	return nil
}

// serveReset answers with a byte; then resets, or waits to be reset.
func (n *notes) serveReset(s network.Stream) error {
	who := make([]byte, 1)
	if _, err := io.ReadFull(s, who); err != nil {
		return err
	}
	if _, err := s.Write(who); err != nil {
		return err
	}
	if who[0] == 'l' {
		time.Sleep(100 * time.Millisecond) // the byte arrives first
		return s.Reset()
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		n.add("reset")
		return nil
	}
	n.add("no reset, but an end")
	return nil
}
