package quote

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/logging"
)

var testData = [ReportDataBytes]byte(bytes.Repeat([]byte{0xa5}, ReportDataBytes))

func fake(t testing.TB) (*fakeIssuer, []byte) {
	t.Helper()
	issuer, err := newFakeIssuer()
	if err != nil {
		t.Fatal(err)
	}
	issued, err := issuer.Issue(context.Background(), testData)
	if err != nil {
		t.Fatal(err)
	}
	return issuer, issued.Quote
}

func failed(verdict Verdict) string {
	var checks []string
	for _, each := range verdict.Faults {
		checks = append(checks, each.Check)
	}
	return strings.Join(checks, " ")
}

func TestFakeQuotesPassWithTheirOwnRootAlone(t *testing.T) {
	issuer, quote := fake(t)
	verdict := validate(quote, map[string]string{"report_data": strings.Repeat("A5", 64)}, time.Now(), issuer.root)
	if !verdict.Valid || failed(verdict) != "" || verdict.Fields["report_data"] != hex.EncodeToString(testData[:]) {
		t.Errorf("%+v", verdict)
	}
	if real := Validate(quote, nil, time.Now()); real.Valid || failed(real) != "pck_chain" {
		t.Errorf("a real check takes it: %+v", real)
	}
}

// TestEachAlteredByteIsFound turns each byte of a quote around, one at a time.
func TestEachAlteredByteIsFound(t *testing.T) {
	issuer, quote := fake(t)
	step := 1
	if testing.Short() {
		step = 17
	}
	for at := 0; at < len(quote); at += step {
		altered := slices.Clone(quote)
		altered[at] ^= 0xff
		if verdict := validate(altered, nil, time.Now(), issuer.root); verdict.Valid && !isArmour(quote, at) {
			t.Fatalf("byte %d of %d can be altered", at, len(quote))
		}
	}
}

// isArmour says whether a byte is one of the PEM text around a certificate that decoding passes over.
func isArmour(quote []byte, at int) bool {
	chain := bytes.Index(quote, []byte("-----BEGIN"))
	return at >= chain && !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=", rune(quote[at]))
}

func TestTruncatedQuotesAreRefused(t *testing.T) {
	_, quote := fake(t)
	for length := range len(quote) {
		if _, err := Parse(quote[:length]); err == nil {
			t.Fatalf("the first %d bytes of %d are taken", length, len(quote))
		}
	}
	if _, err := Parse(append(slices.Clone(quote), make([]byte, 100)...)); err != nil {
		t.Errorf("padding: %v", err)
	}
	if _, err := Parse(make([]byte, maxQuoteBytes+1)); err == nil {
		t.Error("a quote without end is taken")
	}
}

func TestStructuresThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		at, value int
		want      string
	}{
		"version":       {0, 3, "version is 3"},
		"key type":      {2, 3, "attestation key is of type 3"},
		"TEE":           {4, 0, "TEE type is 0x0"},
		"certification": {headerBytes + body10Bytes + 4 + 128, 5, "certification data is of type 5"},
		"chain":         {headerBytes + body10Bytes + 4 + 128 + 6 + 384 + 64 + 2, 1, "certified by data of type 1"},
	} {
		_, quote := fake(t)
		binary.LittleEndian.PutUint16(quote[c.at:], uint16(c.value))
		if _, err := Parse(quote); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestVersion5(t *testing.T) {
	_, quote := fake(t)
	for size, kind := range map[int]int{body10Bytes: bodyTypeTDX10, body15Bytes: bodyTypeTDX15} {
		body := append(slices.Clone(quote[headerBytes:headerBytes+body10Bytes]), make([]byte, size-body10Bytes)...)
		version5 := slices.Concat(little(2, 5), quote[2:headerBytes], little(2, kind), little(4, size), body, quote[headerBytes+body10Bytes:])
		parsed, err := Parse(version5)
		if err != nil || !bytes.Equal(parsed.Fields["report_data"], testData[:]) || len(parsed.signed) != headerBytes+6+size {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, has := parsed.Fields["mr_service_td"]; has != (size == body15Bytes) {
			t.Errorf("%d bytes: mr_service_td is there: %v", size, has)
		}
		binary.LittleEndian.PutUint16(version5[headerBytes:], 1)
		if _, err := Parse(version5); err == nil {
			t.Error("a body of SGX is taken")
		}
	}
}

func TestExpectationsAndDebug(t *testing.T) {
	issuer, quote := fake(t)
	for name, value := range map[string]string{
		"rtmr0": strings.Repeat("00", 48), "mr_td": "00", "report_data": "zz", "mrtd": strings.Repeat("00", 48),
	} {
		if verdict := validate(quote, map[string]string{name: value}, time.Now(), issuer.root); failed(verdict) != "expected" {
			t.Errorf("%s: %+v", name, verdict.Faults)
		}
	}
	for bit := range 8 { // all of the first byte is "TD under debug"
		_, quote := fake(t)
		quote[headerBytes+120] |= 1 << bit
		if verdict := validate(quote, nil, time.Now(), issuer.root); !strings.HasSuffix(failed(verdict), "signature not_debug") {
			t.Errorf("bit %d: %+v", bit, verdict.Faults)
		}
	}
}

// TestQuotingEnclavesOfOthers is what the owner of a machine with SGX can have: a report of an enclave of theirs, which Intel's
// own provisioning enclave signs.
func TestQuotingEnclavesOfOthers(t *testing.T) {
	issuer, quote := fake(t)
	const reportAt = headerBytes + body10Bytes + 4 + signatureBytes + publicKeyBytes + certificationHead
	for name, c := range map[string]struct {
		at    int
		value byte
		want  string
	}{
		"as it is":        {0, quote[reportAt], ""},
		"another signer":  {128, 0, "is not Intel's"},
		"another product": {256, 1, "is not Intel's"},
		"other product":   {257, 1, "is not Intel's"},
		"debug":           {48, 0x17, "in debug mode"},
	} {
		altered := slices.Clone(quote)
		report := altered[reportAt : reportAt+qeReportBytes]
		report[c.at] = c.value
		signature, err := fakeSign(issuer.pck, report)
		if err != nil {
			t.Fatal(err)
		}
		copy(altered[reportAt+qeReportBytes:], signature)
		verdict := validate(altered, nil, time.Now(), issuer.root)
		if c.want == "" && !verdict.Valid {
			t.Errorf("%s: %+v", name, verdict.Faults)
		}
		if c.want != "" && (failed(verdict) != "qe_signer" || !strings.Contains(verdict.Faults[0].Message, c.want)) {
			t.Errorf("%s: %+v", name, verdict.Faults)
		}
	}
}

// vectors are quotes of real machines, which are there in the workshop only.
const vectors = "../../../../../shared/vectors/"

func TestRealQuotes(t *testing.T) {
	if _, err := os.Stat(vectors); err != nil {
		t.Skip("the vectors are not here")
	}
	good, err := os.ReadFile(vectors + "go-tdx-guest/tdx_prod_quote_SPR_E4.dat")
	if err != nil {
		t.Fatal(err)
	}
	when := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	verdict := Validate(good, map[string]string{"mr_td": "6363b8043668a3ad953278e10389574d326c6749fb78aa810ecd9336923db86f22fc00b8dcd404bc10d5e119d7215cbb"}, when)
	if !verdict.Valid {
		t.Errorf("%+v", verdict.Faults)
	}
	if late := Validate(good, nil, when.AddDate(20, 0, 0)); failed(late) != "pck_chain" {
		t.Errorf("in 20 years: %+v", late.Faults)
	}
	preproduction, err := os.ReadFile(vectors + "cc-trusted-api/quote.bin")
	if err != nil {
		t.Fatal(err)
	}
	// All its signatures are right, and its root has the name of Intel's, but another key.
	if verdict := Validate(preproduction, nil, when); failed(verdict) != "pck_chain" {
		t.Errorf("%+v", verdict.Faults)
	}
}

func FuzzValidate(f *testing.F) {
	issuer, quote := fake(f)
	f.Add(quote)
	f.Add(quote[:headerBytes+body10Bytes+200])
	f.Fuzz(func(t *testing.T, data []byte) {
		if verdict := validate(data, nil, time.Now(), issuer.root); verdict.Valid && !bytes.Equal(data[:headerBytes+body10Bytes], quote[:headerBytes+body10Bytes]) {
			t.Errorf("another quote is valid")
		}
	})
}

// kernel is configfs-tsm in memory: one entry at a time, with a generation that counts writes.
type kernel struct {
	provider   string
	quote      func(data []byte) []byte
	inblob     []byte
	generation int
	entries    int
}

func (k *kernel) MkdirTemp(dir, _ string) (string, error) {
	k.entries++
	return path.Join(dir, "entry1"), nil
}

func (k *kernel) ReadFile(name string) ([]byte, error) {
	switch path.Base(name) {
	case "generation":
		return []byte(strconv.Itoa(k.generation) + "\n"), nil
	case "provider":
		return []byte(k.provider + "\n"), nil
	case "outblob":
		return k.quote(k.inblob), nil
	}
	return nil, os.ErrNotExist
}

func (k *kernel) ReadDir(string) ([]os.DirEntry, error) { return nil, errors.New("unused") }

func (k *kernel) WriteFile(_ string, content []byte) error {
	k.generation++
	k.inblob = content
	return nil
}

func (k *kernel) RemoveAll(string) error { k.entries--; return nil }

func TestQuotesOfTheKernel(t *testing.T) {
	_, quote := fake(t)
	right := func([]byte) []byte { return quote }
	for name, c := range map[string]struct {
		kernel kernel
		want   string
	}{
		"right":             {kernel{provider: ProviderTDX, quote: right}, ""},
		"SNP":               {kernel{provider: "sev_guest", quote: right}, `provider of reports is "sev_guest"`},
		"no quote":          {kernel{provider: ProviderTDX, quote: func([]byte) []byte { return nil }}, "something that is no TDX quote"},
		"other report data": {kernel{provider: ProviderTDX, quote: otherData(quote)}, "for other report data"},
	} {
		issued, err := configfsIssuer{client: &c.kernel}.Issue(t.Context(), testData)
		if c.want == "" && (err != nil || issued.Provider != ProviderTDX || !bytes.Equal(c.kernel.inblob, testData[:])) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if c.kernel.entries != 0 {
			t.Errorf("%s: %d entries left", name, c.kernel.entries)
		}
	}
}

func otherData(quote []byte) func([]byte) []byte {
	other := slices.Clone(quote)
	other[headerBytes+520] ^= 1
	return func([]byte) []byte { return other }
}

func TestFakeQuotesNeedATestImage(t *testing.T) {
	conf := &config.Config{Quote: &config.Quote{Source: config.QuoteFake}}
	if _, err := New(conf, logging.New(&bytes.Buffer{}, false)); err == nil || !strings.Contains(err.Error(), "test images only") {
		t.Error(err)
	}
	var log bytes.Buffer
	conf.TestImage = true
	if issuer, err := New(conf, logging.New(&log, false)); err != nil || issuer == nil || !strings.Contains(log.String(), "FAKE QUOTES") {
		t.Errorf("%v, journal %s", err, &log)
	}
	if issuer, err := New(&config.Config{}, nil); issuer != nil || err != nil {
		t.Error("an issuer without configuration")
	}
}
