// What Go programs do, for test_trace.py: one word a thing. Go uses no libc.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func serve(addr string) {
	l, err := net.Listen("tcp", addr)
	must(err)
	fmt.Println("ready", l.Addr().(*net.TCPAddr).Port, l.Addr())
	must(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		w.Header().Set("Seen", r.RemoteAddr+" at "+local.String())
		io.Copy(w, r.Body)
		fmt.Fprintf(w, "%s from %s", r.URL.Path, r.RemoteAddr)
	})))
}

func get(url string) {
	r, err := http.Get(url)
	must(err)
	body, err := io.ReadAll(r.Body)
	must(err)
	fmt.Println(r.StatusCode, string(body))
}

func udpServe(addr string) {
	c, err := net.ListenPacket("udp", addr)
	must(err)
	fmt.Println("ready", c.LocalAddr().(*net.UDPAddr).Port)
	b := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(b)
		must(err)
		_, err = c.WriteTo(append([]byte(from.String()+" "), b[:n]...), from)
		must(err)
	}
}

// As Go's own resolver has it, and by the two ways a datagram is sent.
func udp(addr string, connected bool) {
	to, err := net.ResolveUDPAddr("udp", addr)
	must(err)
	var c *net.UDPConn
	if connected {
		c, err = net.DialUDP("udp", nil, to)
	} else {
		c, err = net.ListenUDP("udp", nil)
	}
	must(err)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 2000)
	if connected {
		_, err = c.Write([]byte("hello"))
	} else {
		_, _, err = c.WriteMsgUDP([]byte("hello"), nil, to)
	}
	must(err)
	n, _, _, from, err := c.ReadMsgUDP(b, nil)
	must(err)
	fmt.Println(string(b[:n]), "from", from, "to", c.LocalAddr())
}

// count dials at once, each with an echo when the far side is one.
func dials(addr string, count int, echo bool) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	begin := time.Now()
	for i := 0; i < count; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			c, err := net.DialTimeout("tcp", addr, 20*time.Second)
			if err == nil && echo {
				c.SetDeadline(time.Now().Add(20 * time.Second))
				text := []byte("number " + strconv.Itoa(i))
				got := make([]byte, len(text))
				c.Write(text)
				if _, err = io.ReadFull(c, got); err == nil && string(got) != string(text) {
					err = fmt.Errorf("other bytes")
				}
			}
			if err != nil {
				mu.Lock()
				failed[err.Error()]++
				mu.Unlock()
				return
			}
			if host, _, _ := net.SplitHostPort(addr); c.RemoteAddr().(*net.TCPAddr).IP.String() != host {
				fmt.Println("wrong peer", c.RemoteAddr())
			}
			c.Close()
		}(i)
	}
	wg.Wait()
	fmt.Println("dials", count, "failed", len(failed), failed, "ms", time.Since(begin).Milliseconds())
}

func main() {
	a := os.Args
	switch a[1] {
	case "serve":
		serve(a[2])
	case "get":
		get(a[2])
	case "udp-serve":
		udpServe(a[2])
	case "udp":
		udp(a[2], false)
	case "udp-connected":
		udp(a[2], true)
	case "dials":
		n, _ := strconv.Atoi(a[3])
		dials(a[2], n, len(a) > 4)
	case "lookup":
		addrs, err := net.DefaultResolver.LookupHost(context.Background(), a[2])
		must(err)
		fmt.Println(addrs)
	}
}
