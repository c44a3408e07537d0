package quote

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"tdxvm/guest/internal/tpmtest"
)

func TestIndicesOfATPM(t *testing.T) {
	tpm := tpmIndices{transport.FromReadWriteCloser(tpmtest.New(t).Boot())}
	if _, err := tpm.Read(nvReport); err == nil || !strings.Contains(err.Error(), "the TPM has no NV index 0x1400001") {
		t.Error(err)
	}
	if err := tpm.Write(nvUserData, testData[:]); err != nil { // made and written
		t.Fatal(err)
	}
	other := bytes.Repeat([]byte{0x5a}, ReportDataBytes)
	if err := tpm.Write(nvUserData, other); err != nil { // written again
		t.Fatal(err)
	}
	if got, err := tpm.Read(nvUserData); err != nil || !bytes.Equal(got, other) {
		t.Errorf("%x %v", got, err)
	}
	if err := tpm.Write(nvUserData, other[:10]); err == nil || !strings.Contains(err.Error(), "has 64 bytes, not 10") {
		t.Error(err)
	}
	long := bytes.Repeat([]byte{1, 2, 3}, 500) // several commands
	if err := tpm.Write(nvReport, long); err != nil {
		t.Fatal(err)
	}
	if got, err := tpm.Read(nvReport); err != nil || !bytes.Equal(got, long) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
