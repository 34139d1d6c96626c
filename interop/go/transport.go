package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	webrtc "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
)

// What is behind the IP address in the address of each transport.
var suffixes = map[string]string{
	"tcp":           "tcp/0",
	"ws":            "tcp/0/ws",
	"wss":           "tcp/0/tls/ws",
	"quic-v1":       "udp/0/quic-v1",
	"webtransport":  "udp/0/quic-v1/webtransport",
	"webrtc-direct": "udp/0/webrtc-direct",
}

func listenAddr(transport, ip string) (string, error) {
	suffix, ok := suffixes[transport]
	if !ok {
		return "", fmt.Errorf("no transport %q", transport)
	}
	if ip == "" || ip == "0.0.0.0" {
		ip = ownIP()
	}
	return fmt.Sprintf("/ip4/%s/%s", ip, suffix), nil
}

// ownIP is an address of this machine that others can dial.
func ownIP() string {
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	return "127.0.0.1"
}

func transportOptions(transport, security, muxer string) ([]libp2p.Option, error) {
	switch transport {
	case "quic-v1":
		return []libp2p.Option{libp2p.Transport(quic.NewTransport)}, nil
	case "webtransport":
		return []libp2p.Option{libp2p.Transport(webtransport.New)}, nil
	case "webrtc-direct":
		return []libp2p.Option{libp2p.Transport(webrtc.New)}, nil
	}
	var options []libp2p.Option
	switch transport {
	case "tcp":
		options = append(options, libp2p.Transport(tcp.NewTCPTransport))
	case "ws":
		options = append(options, libp2p.Transport(websocket.New))
	case "wss":
		certificate, err := selfSigned()
		if err != nil {
			return nil, err
		}
		options = append(options, libp2p.Transport(websocket.New,
			websocket.WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}}),
			websocket.WithTLSClientConfig(&tls.Config{InsecureSkipVerify: true}))) // libp2p proves the peer, not TLS
	default:
		return nil, fmt.Errorf("no transport %q", transport)
	}
	switch security {
	case "noise":
		options = append(options, libp2p.Security(noise.ID, noise.New))
	case "tls":
		options = append(options, libp2p.Security(libp2ptls.ID, libp2ptls.New))
	default:
		return nil, fmt.Errorf("no secure channel %q", security)
	}
	if muxer != "yamux" {
		return nil, fmt.Errorf("no muxer %q", muxer)
	}
	return append(options, libp2p.Muxer(yamux.ID, yamux.DefaultTransport)), nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
