package secrets

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/quote"
)

// Bounds of one request. A client sends some kilobytes; whoever takes longer is not one.
const (
	maxHeaderBytes    = 8 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 45 * time.Second // a quote may take a while
	idleTimeout       = 15 * time.Second
	quoteTimeout      = 30 * time.Second
)

// protocolVersion stands in every answer.
const protocolVersion = 1

// server answers the requests of the protocol.
type server struct {
	conf     *config.Secrets
	store    *store
	identity *identity
	issuer   quote.Issuer // nil where the image has none
	limits   *limiter
	log      *slog.Logger
	// complete is called once, when nothing is missing any more or when going on makes no sense.
	complete func(error)
}

// httpServer wraps the handler in the bounds above.
func (s *server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s,
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		// What it would say is what any scanner can make it say.
		ErrorLog: log.New(io.Discard, "", 0),
		// HTTP/1.1 alone: less to go wrong.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
}

// listener puts TLS, where there is one, on connections that are bounded in number.
func (s *server) listener(plain net.Listener) net.Listener {
	guarded := guard(plain)
	if !s.identity.tls {
		return guarded
	}
	return tls.NewListener(guarded, &tls.Config{
		Certificates:           []tls.Certificate{s.identity.certificate},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
	})
}

// ServeHTTP answers one request.
func (s *server) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	sender := senderOf(request.RemoteAddr)
	if wait := s.limits.take(sender); wait > 0 {
		seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
		s.refuse(response, &refusal{status: http.StatusTooManyRequests, code: "rate", message: "too many requests: wait " + seconds + " s",
			header: http.Header{"Retry-After": {seconds}}})
		return
	}
	answer, refused := s.route(response, request)
	if refused != nil {
		s.log.Warn("request refused", "from", sender, "status", refused.status, "code", refused.code, "why", refused.summary())
		s.refuse(response, refused)
		return
	}
	accepted, isPost := answer.(acceptedAnswer)
	if isPost {
		s.log.Info("secrets received", "from", sender, "names", strings.Join(accepted.Accepted, ","), "missing", strings.Join(accepted.Missing, ","))
	}
	s.answer(response, http.StatusOK, answer)
	if isPost && accepted.State == stateComplete {
		s.complete(nil)
	}
}

// The two states of the server.
const (
	stateWaiting  = "waiting"
	stateComplete = "complete"
)

func (s *server) route(response http.ResponseWriter, request *http.Request) (any, *refusal) {
	routes := map[string]struct {
		method string
		handle func(http.ResponseWriter, *http.Request) (any, *refusal)
	}{
		"/v1/status":  {http.MethodGet, s.status},
		"/v1/quote":   {http.MethodGet, s.quote},
		"/v1/secrets": {http.MethodPost, s.post},
	}
	route, known := routes[request.URL.Path]
	if !known {
		return nil, &refusal{status: http.StatusNotFound, code: "path", message: "there is /v1/status, /v1/quote and /v1/secrets"}
	}
	if request.Method != route.method {
		return nil, &refusal{status: http.StatusMethodNotAllowed, code: "method", message: "the method must be " + route.method,
			header: http.Header{"Allow": {route.method}}}
	}
	// A browser sends Origin, and has no business here.
	if request.Header.Get("Origin") != "" || request.Header.Get("Content-Encoding") != "" {
		return nil, &refusal{status: http.StatusBadRequest, code: "request", message: "the headers Origin and Content-Encoding are not taken"}
	}
	return route.handle(response, request)
}

func (s *server) refuse(response http.ResponseWriter, refused *refusal) {
	for name, values := range refused.header {
		response.Header()[http.CanonicalHeaderKey(name)] = values
	}
	s.answer(response, refused.status, errorAnswer{Version: protocolVersion,
		Error: errorBody{Code: refused.code, Message: refused.message, Faults: refused.faults}})
}

func (s *server) answer(response http.ResponseWriter, status int, content any) {
	data, err := json.Marshal(content)
	if err != nil { // our own plain structs
		http.Error(response, "", http.StatusInternalServerError)
		return
	}
	data = append(data, '\n')
	header := response.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(data)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	response.WriteHeader(status)
	_, _ = response.Write(data) // a client that has gone asks for the status later
	if flusher, ok := response.(http.Flusher); ok {
		flusher.Flush() // before the server stops
	}
}
