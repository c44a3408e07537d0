package quote

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// paravisor is a vTPM whose report takes up the user data after some reads.
type paravisor struct {
	t        *testing.T
	userData []byte
	lag      int
	claims   string
	kind     uint32
	alter    func(report []byte) []byte
	failure  error
}

func (p *paravisor) Write(index uint32, data []byte) error {
	if index != nvUserData {
		p.t.Errorf("written to %#x", index)
	}
	p.userData = slices.Clone(data)
	return p.failure
}

func (p *paravisor) Close() error { return nil }

func (p *paravisor) Read(uint32) ([]byte, error) {
	shown := p.userData
	if p.lag > 0 {
		p.lag--
		shown = make([]byte, 64)
	}
	claims := fmt.Sprintf(`{"keys":[],"user-data":"%X"}`, shown)
	report := make([]byte, hclHeader+hclReport+hclDataHeader)
	binary.LittleEndian.PutUint32(report, hclSignature)
	sum := sha256.Sum256([]byte(claims))
	copy(report[hclHeader+tdReportDataAt:], sum[:])
	binary.LittleEndian.PutUint32(report[hclHeader+hclReport+8:], hclTypeTDX)
	binary.LittleEndian.PutUint32(report[hclHeader+hclReport+16:], uint32(len(claims)))
	report = append(append(report, claims...), make([]byte, 100)...) // the index is longer than the report
	if p.alter != nil {
		report = p.alter(report)
	}
	return report, nil
}

// azureHost turns the TDREPORT that it is sent into a quote with the same report data.
func azureHost(t *testing.T, answer func(quote []byte) string) *httptest.Server {
	issuer, _ := fake(t)
	host := httptest.NewServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		var body struct{ Report string }
		if err := json.NewDecoder(request.Body).Decode(&body); err != nil || request.Method != http.MethodPost {
			t.Errorf("%s %v", request.Method, err)
		}
		report, err := base64.RawURLEncoding.DecodeString(body.Report)
		if err != nil || len(report) != tdReportBytes {
			t.Errorf("report of %d bytes: %v", len(report), err)
		}
		issued, err := issuer.Issue(request.Context(), [64]byte(report[tdReportDataAt:tdReportDataAt+64]))
		if err != nil {
			t.Error(err)
		}
		text := answer(issued.Quote)
		if text == "" {
			response.WriteHeader(http.StatusTooManyRequests)
		}
		_, _ = response.Write([]byte(text))
	}))
	t.Cleanup(host.Close)
	return host
}

func plainAnswer(quote []byte) string {
	return `{"quote":"` + base64.URLEncoding.EncodeToString(quote) + `"}`
}

func TestQuotesOfAzure(t *testing.T) {
	_, unrelated := fake(t)
	put := func(at int, value byte) func([]byte) []byte {
		return func(report []byte) []byte { report[at] ^= value; return report }
	}
	cases := []struct {
		name   string
		tpm    paravisor
		answer func([]byte) string
		want   string
	}{
		{"right", paravisor{}, plainAnswer, ""},
		{"right after a while", paravisor{lag: 1}, plainAnswer, ""},
		{"never takes it up", paravisor{lag: 1000}, plainAnswer, "does not take up the data"},
		{"no NV index", paravisor{failure: errors.New("no such index")}, plainAnswer, "no such index"},
		{"other signature", paravisor{alter: put(0, 1)}, plainAnswer, "no report of Azure's paravisor"},
		{"SNP", paravisor{alter: put(hclHeader+hclReport+8, hclTypeTDX^2)}, plainAnswer, "of type 2, not 4"},
		{"too many claims", paravisor{alter: put(hclHeader+hclReport+18, 1)}, plainAnswer, "bytes of claims"},
		{"claims that are not bound", paravisor{alter: put(hclHeader+hclReport+hclDataHeader, 1)}, plainAnswer, "does not bind its claims"},
		{"short", paravisor{alter: func(report []byte) []byte { return report[:100] }}, plainAnswer, "no report of Azure's paravisor"},
		{"host is busy", paravisor{}, func([]byte) string { return "" }, "answers 429"},
		{"host without JSON", paravisor{}, func([]byte) string { return "sorry" }, "is not JSON"},
		{"host without base64", paravisor{}, func([]byte) string { return `{"quote":"?"}` }, "not base64url"},
		{"host without quote", paravisor{}, func([]byte) string { return `{"quote":"AAAA"}` }, "no TDX quote"},
		{"quote of another", paravisor{}, func([]byte) string { return plainAnswer(unrelated) }, "for another report"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.tpm.t = t
			issuer := newAzureIssuer()
			issuer.open = func() (nvIndices, error) { return &c.tpm, nil }
			issuer.url, issuer.wait = azureHost(t, c.answer).URL, time.Hour
			if c.tpm.lag > 1 {
				issuer.wait = 300 * time.Millisecond
			}
			issued, err := issuer.Issue(t.Context(), testData)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			parsed, parseErr := Parse(issued.Quote)
			if err != nil || parseErr != nil {
				t.Fatal(err, parseErr)
			}
			sum := sha256.Sum256(issued.RuntimeData)
			if string(parsed.Fields["report_data"][:32]) != string(sum[:]) || !strings.Contains(string(issued.RuntimeData), strings.Repeat("A5", 64)) || issued.Provider != ProviderAzure {
				t.Errorf("%s", issued.RuntimeData)
			}
		})
	}
}

func TestWithoutATPM(t *testing.T) {
	issuer := newAzureIssuer()
	issuer.open = func() (nvIndices, error) { return nil, errors.New("no TPM") }
	if _, err := issuer.Issue(t.Context(), testData); err == nil || !strings.Contains(err.Error(), "the vTPM gave no report: no TPM") {
		t.Error(err)
	}
}
