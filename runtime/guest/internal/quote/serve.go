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
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/sd"
	"tdxvm/guest/internal/strictjson"
)

// protocolVersion stands in every answer.
const protocolVersion = 1

// maxLine is the longest request with its line feed: a quote in base64 and what is expected of it.
const maxLine = 128 << 10

// lineTimeout is how long a request may take to come, and an answer to go.
const lineTimeout = 30 * time.Second

// Request is one line of a client.
type Request struct {
	// Op is issue or validate.
	Op string `json:"op"`
	// ReportData (issue) is hexadecimal, ReportDataBase64 the same in base64; one of the two.
	ReportData       string `json:"report_data,omitempty"`
	ReportDataBase64 string `json:"report_data_base64,omitempty"`
	// Quote (validate) is base64; Expected holds fields by name, in hexadecimal.
	Quote    string            `json:"quote,omitempty"`
	Expected map[string]string `json:"expected,omitempty"`
}

// IssueAnswer is the answer to issue.
type IssueAnswer struct {
	Version     int    `json:"version"`
	OK          bool   `json:"ok"`
	Provider    string `json:"provider"`
	Quote       string `json:"quote"`
	RuntimeData string `json:"runtime_data"`
	ReportData  string `json:"report_data"`
}

type validateAnswer struct {
	Version int  `json:"version"`
	OK      bool `json:"ok"`
	Verdict
}

type errorAnswer struct {
	Version int       `json:"version"`
	OK      bool      `json:"ok"`
	Error   errorBody `json:"error"`
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Serve answers on the sockets that the service manager hands over, until nobody has been connected for the
// configured time or ctx ends. The socket unit starts it again.
func Serve(ctx context.Context, conf *config.Quote, issuer Issuer, log *slog.Logger) error {
	listeners, err := sd.Listeners()
	if err != nil {
		return err
	}
	if len(listeners) != 1 {
		return fault.Refuse("start it through its socket unit", "the service manager handed over %d sockets, and there must be one", len(listeners))
	}
	if err := sd.Notify(sd.Ready); err != nil {
		log.Warn("the service manager does not hear", "why", err)
	}
	server := &service{issuer: issuer, log: log, most: conf.MaxConnections,
		idle: time.Duration(conf.IdleSeconds) * time.Second, timeout: lineTimeout}
	listener, ok := listeners[0].(bounded)
	if !ok {
		return fault.Refuse("start it through its socket unit", "the socket of the service manager is of type %T", listeners[0])
	}
	return server.run(ctx, listener)
}

// bounded is a listener that can wait for a time.
type bounded interface {
	net.Listener
	SetDeadline(at time.Time) error
}

// service answers the requests of the unix socket.
type service struct {
	issuer  Issuer
	log     *slog.Logger
	most    int // connections
	idle    time.Duration
	timeout time.Duration

	lock     sync.Mutex
	open     int
	listener bounded // waits for the idle time while nobody is connected, and without end while somebody is
}

// enter counts a connection in, unless there are too many.
func (s *service) enter() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.open >= s.most {
		return false
	}
	s.open++
	_ = s.listener.SetDeadline(time.Time{})
	return true
}

func (s *service) leave() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.open--
	if s.open == 0 {
		_ = s.listener.SetDeadline(time.Now().Add(s.idle))
	}
}

func (s *service) isIdle() bool {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.open == 0
}

func (s *service) run(ctx context.Context, listener bounded) error {
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	s.listener = listener
	if err := listener.SetDeadline(time.Now().Add(s.idle)); err != nil {
		return fmt.Errorf("cannot wait for connections: %w", err)
	}
	for {
		connection, err := listener.Accept()
		// A connection that comes after the deadline stays in the socket's queue, for the next start of this program.
		if errors.Is(err, os.ErrDeadlineExceeded) && s.isIdle() || err != nil && ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue // somebody came in that very moment
		}
		if err != nil {
			return fmt.Errorf("cannot take connections: %w", err)
		}
		if !s.enter() {
			s.send(connection, refusal("busy", "too many connections: try again"))
			_ = connection.Close()
			continue
		}
		serving.Add(1)
		go func() {
			defer serving.Done()
			defer s.leave()
			s.serveConnection(ctx, connection)
		}()
	}
}

func (s *service) serveConnection(ctx context.Context, connection net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = connection.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer connection.Close()
	input := bufio.NewReaderSize(connection, maxLine)
	for ctx.Err() == nil {
		_ = connection.SetReadDeadline(time.Now().Add(s.timeout))
		line, err := input.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			s.send(connection, refusal("size", fmt.Sprintf("a request has at most %d bytes", maxLine)))
			return
		}
		if err != nil {
			if len(line) > 0 && errors.Is(err, io.EOF) {
				s.send(connection, refusal("json", "a request ends with a line feed"))
			}
			return
		}
		if !s.send(connection, s.answer(ctx, bytes.TrimSuffix(line, []byte("\n")))) {
			return
		}
	}
}

func (s *service) send(connection net.Conn, answer any) bool {
	data, err := json.Marshal(answer)
	if err != nil {
		return false
	}
	_ = connection.SetWriteDeadline(time.Now().Add(s.timeout))
	_, err = connection.Write(append(data, '\n'))
	return err == nil
}

func refusal(code, message string) errorAnswer {
	return errorAnswer{Version: protocolVersion, Error: errorBody{Code: code, Message: message}}
}

// answer answers one line.
func (s *service) answer(ctx context.Context, line []byte) any {
	var request Request
	if err := strictjson.Decode(line, strictjson.Limits{Bytes: maxLine, Depth: 3}, &request); err != nil {
		return refusal("json", err.Error())
	}
	switch request.Op {
	case "issue":
		return s.issue(ctx, &request)
	case "validate":
		quote, err := base64.StdEncoding.DecodeString(request.Quote)
		if err != nil || request.ReportData != "" || request.ReportDataBase64 != "" {
			return refusal("request", "validate takes a quote in base64, and what is expected")
		}
		return validateAnswer{Version: protocolVersion, OK: true, Verdict: Validate(quote, request.Expected, time.Now())}
	}
	return refusal("request", "op must be issue or validate")
}

func (s *service) issue(ctx context.Context, request *Request) any {
	if request.Quote != "" || request.Expected != nil || (request.ReportData == "") == (request.ReportDataBase64 == "") {
		return refusal("request", "issue takes report_data or report_data_base64")
	}
	data, err := hex.DecodeString(request.ReportData)
	if request.ReportDataBase64 != "" {
		data, err = base64.StdEncoding.DecodeString(request.ReportDataBase64)
	}
	if err != nil || len(data) != ReportDataBytes {
		return refusal("request", fmt.Sprintf("the report data must be %d bytes", ReportDataBytes))
	}
	answer, err := Issue(ctx, s.issuer, [ReportDataBytes]byte(data))
	if err != nil {
		s.log.Error("no quote", "why", err)
		return refusal("no_quote", err.Error())
	}
	s.log.Info("quote issued", "provider", answer.Provider)
	return answer
}

// Issue makes one quote, in the form of an answer.
func Issue(ctx context.Context, issuer Issuer, data [ReportDataBytes]byte) (IssueAnswer, error) {
	issued, err := issuer.Issue(ctx, data)
	if err != nil {
		return IssueAnswer{}, err
	}
	return IssueAnswer{Version: protocolVersion, OK: true, Provider: issued.Provider,
		Quote:       base64.StdEncoding.EncodeToString(issued.Quote),
		RuntimeData: base64.StdEncoding.EncodeToString(issued.RuntimeData), ReportData: hex.EncodeToString(data[:])}, nil
}
