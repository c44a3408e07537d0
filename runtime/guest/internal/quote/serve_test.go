package quote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tdxvm/guest/internal/logging"
)

// serving runs the service on a socket of the test, and returns its path and how it ended.
func serving(t *testing.T, change func(*service)) (string, chan error) {
	t.Helper()
	name, start := prepared(t, change)
	return name, start()
}

// prepared has the socket, and takes no connection before it is started.
func prepared(t *testing.T, change func(*service)) (string, func() chan error) {
	t.Helper()
	issuer, _ := fake(t)
	s := &service{issuer: issuer, log: logging.New(&bytes.Buffer{}, false), most: 4, idle: time.Hour, timeout: time.Minute}
	if change != nil {
		change(s)
	}
	name := filepath.Join(t.TempDir(), "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return name, func() chan error {
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { ended <- s.run(ctx, listener) }()
		t.Cleanup(cancel)
		return ended
	}
}

func connect(t *testing.T, name string) (net.Conn, *bufio.Reader) {
	t.Helper()
	connection, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	_ = connection.SetDeadline(time.Now().Add(time.Minute))
	return connection, bufio.NewReader(connection)
}

func ask(t *testing.T, connection net.Conn, answers *bufio.Reader, request string) string {
	t.Helper()
	if _, err := connection.Write([]byte(request + "\n")); err != nil {
		t.Fatal(err)
	}
	line, err := answers.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestIssueAndValidateOnOneConnection(t *testing.T) {
	name, _ := serving(t, nil)
	connection, answers := connect(t, name)
	for _, request := range []string{
		`{"op":"issue","report_data":"` + hex.EncodeToString(testData[:]) + `"}`,
		`{"op":"issue","report_data_base64":"` + base64.StdEncoding.EncodeToString(testData[:]) + `"}`,
	} {
		var issued IssueAnswer
		if err := json.Unmarshal([]byte(ask(t, connection, answers, request)), &issued); err != nil || !issued.OK || issued.Provider != ProviderFake {
			t.Fatalf("%+v %v", issued, err)
		}
		var verdict validateAnswer
		line := ask(t, connection, answers, `{"op":"validate","quote":"`+issued.Quote+`","expected":{"report_data":"`+issued.ReportData+`"}}`)
		if err := json.Unmarshal([]byte(line), &verdict); err != nil || !verdict.OK || verdict.Valid || failed(verdict.Verdict) != "pck_chain" || len(verdict.NotChecked) == 0 {
			t.Errorf("%s %v", line, err)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	name, _ := serving(t, func(s *service) {
		s.issuer = failing{}
	})
	connection, answers := connect(t, name)
	data := hex.EncodeToString(testData[:])
	for request, want := range map[string]string{
		``:                                  `"code":"json"`,
		`[]`:                                `"code":"json"`,
		`{"op":"issue"} {}`:                 `"code":"json"`,
		`{"op":"issue","more":1}`:           `"code":"json"`,
		`{"op":"steal"}`:                    `op must be issue or validate`,
		`{"op":"issue"}`:                    `takes report_data or`,
		`{"op":"issue","report_data":"00"}`: `must be 64 bytes`,
		`{"op":"issue","report_data":"` + data + `","report_data_base64":"AA=="}`: `takes report_data or`,
		`{"op":"issue","report_data":"` + data + `","quote":"AA=="}`:              `takes report_data or`,
		`{"op":"validate","quote":"?"}`:                                           `takes a quote in base64`,
		`{"op":"validate","quote":""}`:                                            `"valid":false`,
		`{"op":"issue","report_data":"` + data + `"}`:                             `"code":"no_quote","message":"QGS is down"`,
	} {
		if got := ask(t, connection, answers, request); !strings.Contains(got, want) || !strings.Contains(got, `"version":1`) {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
}

type failing struct{}

func (failing) Issue(context.Context, [64]byte) (Issued, error) {
	return Issued{}, errors.New("QGS is down")
}

func TestLinesAreBounded(t *testing.T) {
	name, _ := serving(t, nil)
	connection, answers := connect(t, name)
	go func() { _, _ = io.Copy(connection, strings.NewReader(strings.Repeat("x", maxLine+1))) }()
	line, err := answers.ReadString('\n')
	if err != nil || !strings.Contains(line, `"code":"size"`) {
		t.Errorf("%s %v", line, err)
	}
	if _, err := answers.ReadByte(); err == nil {
		t.Error("the connection stays")
	}
}

func TestALineWithoutAnEnd(t *testing.T) {
	name, _ := serving(t, nil)
	connection, answers := connect(t, name)
	_, _ = connection.Write([]byte(`{"op":"issue"}`))
	_ = connection.(*net.UnixConn).CloseWrite()
	if line, _ := answers.ReadString('\n'); !strings.Contains(line, "ends with a line feed") {
		t.Errorf("%s", line)
	}
}

func TestSilentClientsAreDropped(t *testing.T) {
	name, _ := serving(t, func(s *service) { s.timeout = 50 * time.Millisecond })
	_, answers := connect(t, name)
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("%v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	name, _ := serving(t, func(s *service) { s.most = 1 })
	first, firstAnswers := connect(t, name)
	ask(t, first, firstAnswers, `{}`) // so that it has been counted
	_, answers := connect(t, name)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, `"code":"busy"`) {
		t.Errorf("%s %v", line, err)
	}
	first.Close()
	for range 3000 { // the place gets free soon
		connection, again := connect(t, name)
		if _, err := connection.Write([]byte("{}\n")); err == nil {
			if line, _ := again.ReadString('\n'); strings.Contains(line, "op must be") {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the place does not get free")
}

func TestItEndsWhenNobodyIsConnected(t *testing.T) {
	name, start := prepared(t, func(s *service) { s.idle = 500 * time.Millisecond })
	connection, answers := connect(t, name) // before the idle time begins
	ended := start()
	ask(t, connection, answers, `{}`)
	select {
	case <-ended:
		t.Fatal("it ends with a client connected")
	case <-time.After(800 * time.Millisecond):
	}
	connection.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

// TestAClientOfTheLastMomentIsNotDropped has a client for whom the service has no time left: it stays in the queue of
// the socket, which the service manager holds on to.
func TestAClientOfTheLastMomentIsNotDropped(t *testing.T) {
	held, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "socket"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	connection, answers := connect(t, held.Addr().String())
	for _, idle := range []time.Duration{-1, time.Hour} { // the first start ends at once, the second one answers
		file, err := held.File()
		if err != nil {
			t.Fatal(err)
		}
		taken, err := net.FileListener(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		issuer, _ := fake(t)
		s := &service{issuer: issuer, log: logging.New(&bytes.Buffer{}, false), most: 4, idle: idle, timeout: time.Minute}
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- s.run(ctx, taken.(bounded)) }()
		if idle > 0 {
			if line := ask(t, connection, answers, `{}`); !strings.Contains(line, "op must be") {
				t.Error(line)
			}
			cancel()
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		cancel()
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	name, _ := serving(t, func(s *service) { s.most = 50; s.issuer = &oneAtATime{issuer: s.issuer} })
	var all sync.WaitGroup
	for index := range 50 {
		all.Add(1)
		connection, answers := connect(t, name)
		go func() {
			defer all.Done()
			data := fmt.Sprintf("%0128x", index)
			_, _ = connection.Write([]byte(`{"op":"issue","report_data":"` + data + "\"}\n"))
			line, err := answers.ReadString('\n')
			var issued IssueAnswer
			if err != nil || json.Unmarshal([]byte(line), &issued) != nil {
				t.Errorf("%s %v", line, err)
				return
			}
			quote, _ := base64.StdEncoding.DecodeString(issued.Quote)
			parsed, err := Parse(quote)
			if err != nil || hex.EncodeToString(parsed.Fields["report_data"]) != data {
				t.Errorf("%v", err)
			}
		}()
	}
	all.Wait()
}

func TestServeNeedsItsSocketUnit(t *testing.T) {
	t.Setenv("LISTEN_PID", "")
	err := Serve(t.Context(), nil, nil, logging.New(&bytes.Buffer{}, false))
	if err == nil || !strings.Contains(err.Error(), "handed over 0 sockets") {
		t.Error(err)
	}
}
