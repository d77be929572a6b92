// A libp2p host that dials another from the port it listens on, as is its default.
//
//	libp2p_work OWN-NAME PEER-NAME LISTEN-ADDRESS...
//
// Names are seeds of keys. Each line of its input is an address to dial the peer at; then 3 MB go there and back, and
// it says which connections it has.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"
)

const (
	protocol = "/echo/1"
	size     = 3000000
	patience = 60 * time.Second
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	return value
}

func key(name string) crypto.PrivKey {
	seed := sha256.Sum256([]byte(name))
	return must(crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed[:])))
}

// Of two dials that cross, one may fail; both sides say how often.
func dial(h host.Host, to peer.AddrInfo) {
	end := time.Now().Add(patience)
	for {
		ctx, stop := context.WithTimeout(context.Background(), patience)
		err := h.Connect(ctx, to)
		stop()
		if err == nil {
			return
		}
		fmt.Println("not yet:", err)
		if time.Now().After(end) {
			os.Exit(1)
		}
		h.Network().(*swarm.Swarm).Backoff().Clear(to.ID)
		time.Sleep(50 * time.Millisecond)
	}
}

func main() {
	h := must(libp2p.New(libp2p.Identity(key(os.Args[1])), libp2p.DisableRelay(), libp2p.ListenAddrStrings(os.Args[3:]...)))
	h.SetStreamHandler(protocol, func(s network.Stream) {
		io.Copy(s, s)
		s.Close()
	})
	id := must(peer.IDFromPrivateKey(key(os.Args[2])))
	fmt.Println("listens", h.Addrs(), "listens")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		dial(h, peer.AddrInfo{ID: id, Addrs: []multiaddr.Multiaddr{multiaddr.StringCast(lines.Text())}})
		s := must(h.NewStream(context.Background(), id, protocol))
		sent := bytes.Repeat([]byte(os.Args[1]), size/len(os.Args[1]))
		go func() {
			s.Write(sent)
			s.CloseWrite()
		}()
		fmt.Println("echoed", bytes.Equal(must(io.ReadAll(s)), sent))
		for _, c := range h.Network().ConnsToPeer(id) {
			fmt.Println("connection", c.Stat().Direction, c.LocalMultiaddr(), c.RemoteMultiaddr())
		}
		fmt.Println("done")
	}
}
