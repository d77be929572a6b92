// What a Go library does inside another program, for test_own_libraries.py: one function a thing.
package main

import "C"

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
	"unsafe"
)

func failed(err error) C.int {
	fmt.Println("failed:", err)
	return 1
}

//export Dial
func Dial(addr *C.char) C.int {
	c, err := net.DialTimeout("tcp", C.GoString(addr), 20*time.Second)
	if err != nil {
		return failed(err)
	}
	defer c.Close()
	text := make([]byte, 5)
	c.Write([]byte("hello"))
	if _, err = io.ReadFull(c, text); err != nil {
		return failed(err)
	}
	fmt.Println(string(text), c.LocalAddr().(*net.TCPAddr).IP, c.RemoteAddr())
	return 0
}

// Many at once, each of many bytes.
//
//export Dials
func Dials(addr *C.char, count C.int) C.int {
	var wg sync.WaitGroup
	good := make(chan bool, int(count))
	to := C.GoString(addr)
	for i := 0; i < int(count); i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer c.Close()
			sent, got := make([]byte, 100_000), make([]byte, 100_000)
			for j := range sent {
				sent[j] = byte(i * j)
			}
			go c.Write(sent)
			_, err = io.ReadFull(c, got)
			if err == nil && string(sent) == string(got) {
				good <- true
			}
		}()
	}
	wg.Wait()
	fmt.Println("good", len(good))
	return 0
}

//export Datagram
func Datagram(addr *C.char) C.int {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return failed(err)
	}
	to, err := net.ResolveUDPAddr("udp", C.GoString(addr))
	if err != nil {
		return failed(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	text := make([]byte, 5)
	c.WriteToUDP([]byte("hello"), to)
	_, from, err := c.ReadFromUDP(text)
	if err != nil {
		return failed(err)
	}
	fmt.Println(string(text), "from", from)
	return 0
}

//export Serve
func Serve(addr *C.char) C.int {
	l, err := net.Listen("tcp", C.GoString(addr))
	if err != nil {
		return failed(err)
	}
	fmt.Println("ready", l.Addr().(*net.TCPAddr).Port)
	c, err := l.Accept()
	if err != nil {
		return failed(err)
	}
	fmt.Println("from", c.RemoteAddr().(*net.TCPAddr).IP)
	c.Write([]byte("welcome"))
	c.Close()
	os.Stdout.Sync()
	return 0
}

// What a program says that is started with these words, of which there are no more than eight.
//
//export Run
func Run(words **C.char, count C.int) C.int {
	var list []string
	for _, word := range (*[8]*C.char)(unsafe.Pointer(words))[:count] {
		list = append(list, C.GoString(word))
	}
	said, err := exec.Command(list[0], list[1:]...).CombinedOutput()
	if err != nil {
		return failed(err)
	}
	fmt.Print(string(said))
	return 0
}

func main() {}
