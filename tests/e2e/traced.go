// What Go programs do, for test_trace.py: one word a thing. Go uses no libc.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// The answer to /together?500 comes when 500 such questions are waiting.
type party struct {
	mu    sync.Mutex
	here  int
	begin chan struct{}
}

func (p *party) join(r *http.Request) {
	want, _ := strconv.Atoi(r.URL.RawQuery)
	p.mu.Lock()
	if p.begin == nil {
		p.begin = make(chan struct{})
	}
	begin := p.begin
	p.here++
	if p.here == want {
		p.here, p.begin = 0, nil
		close(begin)
	}
	p.mu.Unlock()
	select {
	case <-begin:
	case <-r.Context().Done():
	}
}

func serve(addr string) {
	l, err := net.Listen("tcp", addr)
	must(err)
	fmt.Println("ready", l.Addr().(*net.TCPAddr).Port, l.Addr())
	var p party
	must(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/together" {
			p.join(r)
		}
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

// Count connections, open at the same time; then rounds of requests on all of them.
func together(url string, count, rounds int) {
	var wg sync.WaitGroup
	var bad atomic.Int64
	client := http.Client{Timeout: 60 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: count, MaxIdleConns: count}}
	ask := func(path, text string) {
		r, err := client.Post(url+path, "text/plain", strings.NewReader(text))
		if err == nil {
			body, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if strings.HasPrefix(string(body), text) && strings.HasSuffix(r.Header.Get("Seen"), strings.TrimPrefix(url, "http://")) {
				return
			}
			err = fmt.Errorf("other answer: %.80s, seen %s", body, r.Header.Get("Seen"))
		}
		if bad.Add(1) == 1 {
			fmt.Println(err)
		}
	}
	run := func(each func(i int)) time.Duration {
		begin := time.Now()
		for i := 0; i < count; i++ {
			wg.Add(1)
			go func(i int) {
				defer wg.Done()
				each(i)
			}(i)
		}
		wg.Wait()
		return time.Since(begin)
	}
	first := run(func(i int) { ask("/together?"+strconv.Itoa(count), "number "+strconv.Itoa(i)) })
	then := run(func(i int) {
		for j := 0; j < rounds; j++ {
			ask("/", "round "+strconv.Itoa(i*rounds+j))
		}
	})
	fmt.Println("bad", bad.Load(), "together ms", first.Milliseconds(), "requests/s",
		int(float64(count*rounds)/then.Seconds()))
}

func interfaces() {
	all, err := net.Interfaces()
	must(err)
	for _, i := range all {
		addrs, err := i.Addrs()
		must(err)
		words := []string{}
		for _, a := range addrs {
			words = append(words, a.String())
		}
		sort.Strings(words)
		byIndex, err := net.InterfaceByIndex(i.Index)
		must(err)
		fmt.Println(byIndex.Name, i.MTU, i.Flags, strings.Join(words, " "))
	}
	addrs, err := net.InterfaceAddrs()
	must(err)
	fmt.Println("all", addrs)
}

// A dial from a socket that is tied to an interface, and what it says it is tied to.
func fromDevice(addr, name string) {
	tied := ""
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		c.Control(func(fd uintptr) {
			if err = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, name); err == nil {
				b := make([]byte, 16)
				n := uint32(len(b))
				syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE,
					uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
				tied = strings.TrimRight(string(b[:n]), "\x00")
			}
		})
		return err
	}}
	c, err := d.Dial("tcp", addr)
	must(err)
	fmt.Println("tied to", tied, "at", c.LocalAddr().(*net.TCPAddr).IP)
}

// Dials, children and signals at the same time; children dial themselves.
func storm(addr string, rounds int) {
	var wg sync.WaitGroup
	var dials, children, bad atomic.Int64
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, syscall.SIGUSR1)
	over := make(chan struct{})
	go func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
				syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			}
		}
	}()
	host, port, _ := net.SplitHostPort(addr)
	for i := 0; i < 8; i++ {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for j := 0; j < rounds*4; j++ {
				c, err := net.DialTimeout("tcp", addr, 20*time.Second)
				if err != nil || c.RemoteAddr().String() != addr {
					bad.Add(1)
					fmt.Println("dial", err)
					continue
				}
				dials.Add(1)
				c.Close()
			}
		}()
		go func(i int) {
			defer wg.Done()
			for j := 0; j < rounds; j++ {
				words := []string{os.Args[0], "dials", addr, "1"}
				if i%2 == 1 {
					words = []string{os.Args[4], "echo", host, port}
				}
				out, err := exec.Command(words[0], words[1:]...).Output()
				if err != nil || (!strings.HasPrefix(string(out), "dials 1 failed 0") && string(out) != "hello\n") {
					bad.Add(1)
					fmt.Println("child", err, string(out))
					continue
				}
				children.Add(1)
			}
		}(i)
	}
	wg.Wait()
	close(over)
	fmt.Println("bad", bad.Load(), "dials", dials.Load(), "children", children.Load(), "signals", len(signals) > 0)
}

// Hears of its end, and says what it was; talks first when it is told to, by SIGUSR1.
func hear(name string, c net.Conn, told <-chan struct{}) {
	if told != nil {
		<-told
		_, err := c.Write([]byte("x"))
		must(err)
	}
	_, err := c.Read(make([]byte, 1))
	what := "another"
	if errors.Is(err, syscall.ETIMEDOUT) {
		what = "ETIMEDOUT"
	} else if errors.Is(err, syscall.ECONNRESET) {
		what = "ECONNRESET"
	}
	fmt.Println("heard", name, what, err)
}

// Keepalive as Go sets it on each connection, but quick: after 1 s, and then twice 1 s.
func keepQuick(c net.Conn) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	must(err)
	must(raw.Control(func(fd uintptr) {
		must(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 1))
		must(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 2))
	}))
}

func toldByUser() <-chan struct{} {
	signals, told := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGUSR1)
	go func() { <-signals; close(told) }()
	return told
}

// A dial whose socket gets these options before it connects; nothing else is set.
func dialWith(addr string, options ...[3]int) net.Conn {
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			for _, o := range options {
				must(syscall.SetsockoptInt(int(fd), o[0], o[1], o[2]))
			}
		})
	}}
	c, err := d.Dial("tcp", addr)
	must(err)
	return c
}

// To each address with keepalive, as Go sets it and before the connect; with TCP_USER_TIMEOUT (18), for what is
// said; and as it comes.
func patient(addrs []string) {
	told := toldByUser()
	for _, addr := range addrs {
		kept := net.Dialer{KeepAlive: time.Second}
		c, err := kept.Dial("tcp", addr)
		must(err)
		keepQuick(c)
		go hear("dialled_kept", c, nil)
		const tcp = syscall.IPPROTO_TCP
		c = dialWith(addr, [3]int{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1}, [3]int{tcp, syscall.TCP_KEEPIDLE, 1},
			[3]int{tcp, syscall.TCP_KEEPINTVL, 1}, [3]int{tcp, syscall.TCP_KEEPCNT, 2})
		go hear("dialled_kept_before", c, nil)
		go hear("dialled_timed", dialWith(addr, [3]int{tcp, 18, 2000}), told)
		c, err = net.Dial("tcp", addr)
		must(err)
		go hear("dialled_plain", c, nil)
	}
	fmt.Println("ready", os.Getpid())
	select {}
}

func patientServe(addrs []string) {
	for _, addr := range addrs {
		config := net.ListenConfig{KeepAlive: time.Second}
		l, err := config.Listen(context.Background(), "tcp", addr)
		must(err)
		fmt.Println("listens", l.Addr())
		go func() {
			for {
				c, err := l.Accept()
				must(err)
				keepQuick(c)
				go hear("accepted_kept", c, nil)
			}
		}()
	}
	fmt.Println("ready", os.Getpid())
	select {}
}

// What the first process of a container has to do with: orphans, and a SIGTERM that is meant for us.
func first(addr string) {
	c, err := net.Dial("tcp", addr)
	must(err)
	fmt.Println("dialled as", c.LocalAddr().(*net.TCPAddr).IP)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	for i := 0; i < 20; i++ {
		must(exec.Command("/bin/sh", "-c", "sleep 0.05 &").Run())
	}
	left := 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out, _ := exec.Command("/bin/ps", "-A", "-o", "stat=,comm=").Output()
		if left = strings.Count(string(out), "sleep"); left == 0 {
			break
		}
	}
	fmt.Println("orphans", left, "of 20")
	fmt.Println("ready", os.Getpid())
	fmt.Println("got", <-signals)
	os.Exit(7)
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
	case "together":
		n, _ := strconv.Atoi(a[3])
		rounds, _ := strconv.Atoi(a[4])
		together(a[2], n, rounds)
	case "interfaces":
		interfaces()
	case "device":
		fromDevice(a[2], a[3])
	case "storm":
		rounds, _ := strconv.Atoi(a[3])
		storm(a[2], rounds)
	case "first":
		first(a[2])
	case "patient":
		patient(a[2:])
	case "patient-serve":
		patientServe(a[2:])
	case "sh":
		out, err := exec.Command(a[2], a[3:]...).CombinedOutput()
		fmt.Print(string(out))
		must(err)
	case "lookup":
		addrs, err := net.DefaultResolver.LookupHost(context.Background(), a[2])
		must(err)
		fmt.Println(addrs)
	}
}
