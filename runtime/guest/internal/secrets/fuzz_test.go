package secrets

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tdxvm/guest/internal/logging"
)

// FuzzServer sends any request to one server, whose store forgets between requests.
func FuzzServer(f *testing.F) {
	f.Add("POST", "/v1/secrets", "application/json", "Bearer x", []byte(`{"secrets":{"api_token":"tok_12345","seed":"AAAA","port":1}}`))
	f.Add("POST", "/v1/secrets", "application/json; charset=utf-8", "", []byte(`{"secrets":{"api_token":"\ud83d\ude00","port":-1e3}}`))
	f.Add("POST", "/v1/secrets", "application/json", "", []byte(`{"secrets":{"seed":"\ud800","seed":{"a":[null,true]}}}`))
	f.Add("GET", "/v1/quote?nonce=zz", "", "", []byte(nil))
	f.Add("GET", "/v1/status", "", "", []byte(nil))
	folder := volatile(f)
	opened := sampleStore(f, folder)
	log := &lines{}
	a := &server{conf: newAnswering(f, nil).conf, identity: &identity{}, log: logging.New(log, false), complete: func(error) {}}
	f.Fuzz(func(t *testing.T, method, target, media, authorisation string, body []byte) {
		request, err := http.NewRequest(method, "http://vm/", strings.NewReader(string(body)))
		if err != nil {
			return // net/http itself refuses such a method
		}
		request.URL.Path, request.URL.RawQuery, _ = strings.Cut(target, "?")
		request.RemoteAddr = "192.0.2.1:1"
		request.Header.Set("Content-Type", media)
		request.Header.Set("Authorization", authorisation)
		opened.lock.Lock()
		opened.state = state{Version: 1}
		opened.lock.Unlock()
		log.text.Reset()
		a.store, a.limits = opened, newLimiter(60000, 60000, time.Now)
		recorder := httptest.NewRecorder()
		a.ServeHTTP(recorder, request)
		checkAnswer(t, recorder, opened)
		if strings.Count(log.String(), "\n") > 1 {
			t.Errorf("more than one line in the journal: %q", log)
		}
	})
}

// checkAnswer holds what must be so whatever was sent.
func checkAnswer(t *testing.T, recorder *httptest.ResponseRecorder, opened *store) {
	var answer struct {
		Version  int
		Accepted []string
		Error    *errorBody
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || answer.Version != 1 {
		t.Fatalf("answer %q: %v", recorder.Body, err)
	}
	if (recorder.Code == http.StatusOK) != (answer.Error == nil) || recorder.Code == http.StatusInternalServerError {
		t.Fatalf("%d %s", recorder.Code, recorder.Body)
	}
	if len(answer.Accepted) != len(opened.state.Secrets) {
		t.Fatalf("%v accepted, %d kept", answer.Accepted, len(opened.state.Secrets))
	}
	for _, kept := range opened.state.Secrets {
		at := slices.IndexFunc(opened.rules, func(each rule) bool { return each.Name == kept.Name })
		if _, faults := opened.rules[at].checked(kept.Value); len(faults) != 0 {
			t.Fatalf("%s was kept against its schema: %v", kept.Name, faults)
		}
	}
}

// FuzzBody holds that what the strict parser takes has one meaning: written again by encoding/json, it is the same.
func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"secrets":{"a":1,"b":"\u00e9","c":[{"d":null}]}}`))
	f.Add([]byte(`{"secrets":{"a":"\ud800\udc00"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseBody(data)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, each := range entries {
			if seen[each.name] || !json.Valid(each.raw) {
				t.Fatalf("%q", each.name)
			}
			seen[each.name] = true
		}
		var loose struct {
			Secrets map[string]json.RawMessage
		}
		if err := json.Unmarshal(data, &loose); err != nil || len(loose.Secrets) != len(entries) {
			t.Fatalf("%d entries, encoding/json sees %d: %v", len(entries), len(loose.Secrets), err)
		}
	})
}
