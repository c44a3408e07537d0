package secrets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/logging"
	"tdxvm/guest/internal/quote"
)

const testToken = "0123456789abcdef0123456789abcdef"

// lines is a log that tests read.
type lines struct {
	lock sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(data []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.Write(data)
}

func (l *lines) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.String()
}

// answering is a server under test.
type answering struct {
	*server
	folder    string
	log       *lines
	completed chan error
}

// issuerOf answers with the data itself as the quote.
type issuerFunc func(data [64]byte) (quote.Issued, error)

func (f issuerFunc) Issue(_ context.Context, data [64]byte) (quote.Issued, error) { return f(data) }

func newAnswering(t testing.TB, change func(*config.Secrets)) *answering {
	t.Helper()
	folder := volatile(t)
	conf := &config.Secrets{Method: "http_post", TLS: config.TLSOff, MaxBodyBytes: 2048, RequestsPerMinute: 60000, RequestsPerMinuteTotal: 60000}
	if change != nil {
		change(conf)
	}
	key, err := newIdentity(conf)
	if err != nil {
		t.Fatal(err)
	}
	result := &answering{folder: folder, log: &lines{}, completed: make(chan error, 100)}
	result.server = &server{conf: conf, store: sampleStore(t, folder), identity: key, log: logging.New(result.log, false),
		limits: newLimiter(conf.RequestsPerMinute, conf.RequestsPerMinuteTotal, time.Now), complete: func(err error) { result.completed <- err },
		issuer: issuerFunc(func(data [64]byte) (quote.Issued, error) { return quote.Issued{Provider: "test", Quote: data[:]}, nil })}
	return result
}

func (a *answering) do(method, target, body string, header ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, target, strings.NewReader(body))
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	for index := 0; index < len(header); index += 2 {
		request.Header.Set(header[index], header[index+1])
	}
	recorder := httptest.NewRecorder()
	a.ServeHTTP(recorder, request)
	return recorder
}

func codeOf(t testing.TB, recorder *httptest.ResponseRecorder) string {
	t.Helper()
	var answer errorAnswer
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || answer.Version != 1 {
		t.Fatalf("%s: %v", recorder.Body, err)
	}
	return answer.Error.Code
}

func TestRefusals(t *testing.T) {
	const good = `{"secrets":{"api_token":"tok_12345"}}`
	cases := []struct {
		name, method, target, body string
		header                     []string
		status                     int
		code                       string
	}{
		{"path", "GET", "/", "", nil, 404, "path"},
		{"path that cleans to ours", "GET", "/v1//status", "", nil, 404, "path"},
		{"method", "PUT", "/v1/secrets", good, nil, 405, "method"},
		{"method of status", "POST", "/v1/status", "", nil, 405, "method"},
		{"browser", "POST", "/v1/secrets", good, []string{"Origin", "http://example.net"}, 400, "request"},
		{"compression", "POST", "/v1/secrets", good, []string{"Content-Encoding", "gzip"}, 400, "request"},
		{"form", "POST", "/v1/secrets", good, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "content_type"},
		{"no type", "POST", "/v1/secrets", good, []string{"Content-Type", ""}, 415, "content_type"},
		{"charset", "POST", "/v1/secrets", good, []string{"Content-Type", "application/json; charset=latin1"}, 415, "content_type"},
		{"size", "POST", "/v1/secrets", `{"secrets":{"api_token":"` + strings.Repeat("x", 2048) + `"}}`, nil, 413, "size"},
		{"json", "POST", "/v1/secrets", `{"secrets":`, nil, 400, "json"},
		{"schema", "POST", "/v1/secrets", `{"secrets":{"api_token":"x"}}`, nil, 422, "invalid"},
		{"unknown", "POST", "/v1/secrets", `{"secrets":{"x":"x"}}`, nil, 422, "invalid"},
		{"no nonce", "GET", "/v1/quote", "", nil, 400, "nonce"},
		{"short nonce", "GET", "/v1/quote?nonce=00", "", nil, 400, "nonce"},
		{"nonce of other digits", "GET", "/v1/quote?nonce=" + strings.Repeat("zz", 32), "", nil, 400, "nonce"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := newAnswering(t, nil)
			got := a.do(c.method, c.target, c.body, c.header...)
			if got.Code != c.status || codeOf(t, got) != c.code {
				t.Errorf("%d %s, want %d %s", got.Code, got.Body, c.status, c.code)
			}
			if got.Header().Get("Cache-Control") != "no-store" || got.Header().Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", got.Header())
			}
			if !strings.Contains(a.log.String(), "code="+c.code) {
				t.Errorf("the journal has %s", a.log)
			}
			if a.store.received("api_token") {
				t.Error("taken all the same")
			}
		})
	}
}

func TestASizeThatIsNotAnnouncedIsBoundedToo(t *testing.T) {
	a := newAnswering(t, nil)
	request := httptest.NewRequest("POST", "/v1/secrets", io.MultiReader(strings.NewReader(`{"secrets":{"api_token":"`), strings.NewReader(strings.Repeat("x", 4096))))
	request.Header.Set("Content-Type", "application/json")
	request.ContentLength = -1
	recorder := httptest.NewRecorder()
	a.ServeHTTP(recorder, request)
	if recorder.Code != 413 {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
}

func TestTooManyRequests(t *testing.T) {
	a := newAnswering(t, nil)
	start := time.Now()
	a.limits = newLimiter(2, 60000, func() time.Time { return start })
	a.do("GET", "/v1/status", "")
	a.do("GET", "/v1/status", "")
	got := a.do("GET", "/v1/status", "")
	if got.Code != 429 || codeOf(t, got) != "rate" || got.Header().Get("Retry-After") != "30" {
		t.Errorf("%d %s %v", got.Code, got.Body, got.Header())
	}
}

func TestTheWholeWay(t *testing.T) {
	a := newAnswering(t, nil)
	status := a.do("GET", "/v1/status", "")
	if want := `{"version":1,"state":"waiting","token":false,"secrets":[{"name":"api_token","kind":"string","required":true,"received":false},` +
		`{"name":"port","kind":"int","required":false,"received":false},{"name":"seed","kind":"base64","required":true,"received":false}]}`; strings.TrimSpace(status.Body.String()) != want {
		t.Errorf("status %s", status.Body)
	}
	first := a.do("POST", "/v1/secrets", `{"secrets":{"api_token":"tok_12345"}}`)
	if want := `{"version":1,"accepted":["api_token"],"missing":["seed"],"state":"waiting"}`; first.Code != 200 || strings.TrimSpace(first.Body.String()) != want {
		t.Errorf("%d %s", first.Code, first.Body)
	}
	again := a.do("POST", "/v1/secrets", `{"secrets":{"api_token":"tok_99999"}}`)
	if again.Code != 409 || codeOf(t, again) != "already" {
		t.Errorf("%d %s", again.Code, again.Body)
	}
	if len(a.completed) != 0 {
		t.Error("complete too early")
	}
	last := a.do("POST", "/v1/secrets", `{"secrets":{"seed":"AAAA"}}`)
	if want := `{"version":1,"accepted":["seed"],"missing":[],"state":"complete"}`; last.Code != 200 || strings.TrimSpace(last.Body.String()) != want {
		t.Errorf("%d %s", last.Code, last.Body)
	}
	if len(a.completed) != 1 || <-a.completed != nil {
		t.Error("not complete")
	}
	for _, value := range []string{"tok_12345", "tok_99999", "AAAA"} {
		if strings.Contains(a.log.String(), value) {
			t.Errorf("the journal has a value: %s", a.log)
		}
	}
}

func TestTokens(t *testing.T) {
	const good = `{"secrets":{"api_token":"tok_12345","seed":"AAAA"}}`
	sum := sha256.Sum256([]byte(testToken))
	a := newAnswering(t, func(conf *config.Secrets) { conf.TokenSHA256 = hex.EncodeToString(sum[:]) })
	for _, header := range [][]string{nil, {"Authorization", testToken}, {"Authorization", "Bearer " + testToken + "0"}, {"Authorization", "Bearer "}, {"Authorization", "Basic " + testToken}} {
		if got := a.do("POST", "/v1/secrets", good, header...); got.Code != 401 || codeOf(t, got) != "token" || got.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%v: %d %s", header, got.Code, got.Body)
		}
	}
	bearer := []string{"Authorization", "Bearer " + testToken}
	if got := a.do("POST", "/v1/secrets", `{"secrets":{"seed":"AAAA"}}`, bearer...); got.Code != 422 || !strings.Contains(got.Body.String(), `"rule":"required"`) {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := a.do("POST", "/v1/secrets", good, bearer...); got.Code != 200 {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := a.do("POST", "/v1/secrets", `{"secrets":{"port":1}}`, bearer...); got.Code != 401 || !strings.Contains(got.Body.String(), "has been used") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if strings.Contains(a.log.String(), testToken) {
		t.Error("the token is in the journal")
	}
}

func TestWithoutQuotes(t *testing.T) {
	target := "/v1/quote?nonce=" + strings.Repeat("0a", 32)
	a := newAnswering(t, nil)
	a.issuer = nil
	if got := a.do("GET", target, ""); got.Code != 503 || codeOf(t, got) != "no_quote" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	a.issuer = issuerFunc(func([64]byte) (quote.Issued, error) { return quote.Issued{}, errors.New("QGS is down") })
	if got := a.do("GET", target, ""); got.Code != 503 || !strings.Contains(got.Body.String(), "QGS is down") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
}

// TestTheQuoteBindsNonceAndKey does what a client does: it computes the report data from its own nonce and the key
// that it sees in its own handshake.
func TestTheQuoteBindsNonceAndKey(t *testing.T) {
	a := newAnswering(t, func(conf *config.Secrets) { conf.TLS = config.TLSGenerated })
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := a.httpServer()
	go func() { _ = web.Serve(a.listener(plain)) }()
	defer web.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // it trusts the quote instead
	defer client.CloseIdleConnections()
	nonce := bytes.Repeat([]byte{0xab}, 32)
	response, err := client.Get("https://" + plain.Addr().String() + "/v1/quote?nonce=" + hex.EncodeToString(nonce))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer quoteAnswer
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	seen := sha256.Sum256(response.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	want := sha512.Sum512([]byte("tdx-guest secrets v1\n" + string(nonce) + string(seen[:])))
	if answer.Quote != base64.StdEncoding.EncodeToString(want[:]) || answer.ReportData != hex.EncodeToString(want[:]) {
		t.Errorf("%+v, want report data %x", answer, want)
	}
	if answer.SPKI != hex.EncodeToString(seen[:]) || !strings.HasPrefix(answer.Certificate, "-----BEGIN CERTIFICATE-----") || response.TLS.Version != tls.VersionTLS13 {
		t.Errorf("%+v", answer)
	}
	if other := newAnswering(t, func(conf *config.Secrets) { conf.TLS = config.TLSGenerated }); other.identity.spki == a.identity.spki {
		t.Error("two starts have one key")
	}
}

func TestSlowRequestsAreCutOff(t *testing.T) {
	a := newAnswering(t, nil)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := a.httpServer()
	if web.ReadHeaderTimeout == 0 || web.ReadTimeout == 0 || web.WriteTimeout == 0 || web.IdleTimeout == 0 || web.MaxHeaderBytes == 0 {
		t.Fatalf("a bound is missing: %+v", web)
	}
	web.ReadHeaderTimeout, web.ReadTimeout, web.IdleTimeout = 200*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	go func() { _ = web.Serve(a.listener(plain)) }()
	defer web.Close()
	for name, sent := range map[string]string{
		"silent":      "",
		"half header": "POST /v1/secrets HTTP/1.1\r\nHost: x\r\n",
		"half body":   "POST /v1/secrets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"idle":        "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		connection, err := net.Dial("tcp", plain.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = connection.SetDeadline(time.Now().Add(time.Minute))
		_, _ = connection.Write([]byte(sent))
		if _, err := io.ReadAll(connection); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: the server does not hang up: %v", name, err)
		}
		connection.Close()
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	a := newAnswering(t, nil)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := a.httpServer()
	go func() { _ = web.Serve(a.listener(plain)) }()
	defer web.Close()
	request, _ := http.NewRequest("GET", "http://"+plain.Addr().String()+"/v1/status", nil)
	request.Header.Set("X", strings.Repeat("x", 20<<10))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("large header: %s", response.Status)
	}
}

// TestTheServerStopsWhenNothingIsMissing runs the server as the program does.
func TestTheServerStopsWhenNothingIsMissing(t *testing.T) {
	folder := volatile(t)
	// any free port, on an address that nothing else on the machine has a reason to use
	conf := &config.Secrets{Method: "http_post", Address: "127.84.68.88", TLS: config.TLSOff,
		MaxBodyBytes: 2048, RequestsPerMinute: 600, RequestsPerMinuteTotal: 600}
	log := &lines{}
	ended := make(chan error, 1)
	opened := sampleStore(t, folder)
	go func() { ended <- serve(t.Context(), conf, opened, nil, logging.New(log, false)) }()
	announced := regexp.MustCompile(`address=(127\.84\.68\.88:\d+)`)
	var address string
	for deadline := time.Now().Add(time.Minute); address == ""; time.Sleep(5 * time.Millisecond) {
		if found := announced.FindStringSubmatch(log.String()); found != nil {
			address = found[1]
		} else if time.Now().After(deadline) {
			t.Fatalf("it does not listen: %s", log)
		}
	}
	response, err := http.Post("http://"+address+"/v1/secrets", "application/json", strings.NewReader(`{"secrets":{"api_token":"tok_12345","seed":"AAAA"}}`))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || !strings.Contains(string(answer), `"state":"complete"`) {
		t.Errorf("%s %v", answer, err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("the port is still open")
	}
}

func TestTheServerGivesUp(t *testing.T) {
	conf := &config.Secrets{Method: "http_post", Address: "127.0.0.1", TLS: config.TLSOff, MaxBodyBytes: 2048, RequestsPerMinute: 6, RequestsPerMinuteTotal: 6}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := serve(ctx, conf, sampleStore(t, volatile(t)), nil, logging.New(&lines{}, false))
	if err == nil || !strings.Contains(err.Error(), "the time is up: these secrets have not come: api_token, seed") {
		t.Error(err)
	}
}
