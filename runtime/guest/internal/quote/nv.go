package quote

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

// tpmDevice is the kernel's resource-managed TPM.
const tpmDevice = "/dev/tpmrm0"

// nvChunk is how much one command reads or writes; every TPM takes so much (TPM_PT_NV_BUFFER_MAX).
const nvChunk = 512

// nvMax bounds an index, of which the TPM itself says how long it is.
const nvMax = 16 << 10

// tpmIndices are the NV indices of a TPM, with the authority of the owner, which has no password.
type tpmIndices struct{ transport.TPMCloser }

func openTPM() (nvIndices, error) {
	opened, err := linuxtpm.Open(tpmDevice)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", tpmDevice, err)
	}
	return tpmIndices{opened}, nil
}

func (t tpmIndices) public(index uint32) (tpm2.NamedHandle, int, error) {
	handle := tpm2.TPMHandle(index)
	answer, err := tpm2.NVReadPublic{NVIndex: handle}.Execute(t)
	if err != nil {
		return tpm2.NamedHandle{}, 0, err
	}
	public, err := answer.NVPublic.Contents()
	if err != nil {
		return tpm2.NamedHandle{}, 0, err
	}
	return tpm2.NamedHandle{Handle: handle, Name: answer.NVName}, int(public.DataSize), nil
}

func (t tpmIndices) Read(index uint32) ([]byte, error) {
	named, size, err := t.public(index)
	if err != nil {
		return nil, fmt.Errorf("the TPM has no NV index %#x: %w", index, err)
	}
	if size > nvMax {
		return nil, fmt.Errorf("NV index %#x has %d bytes, more than %d", index, size, nvMax)
	}
	var data []byte
	for len(data) < size {
		answer, err := tpm2.NVRead{
			AuthHandle: ownerAuth(), NVIndex: named,
			Size: uint16(min(nvChunk, size-len(data))), Offset: uint16(len(data)),
		}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("cannot read NV index %#x: %w", index, err)
		}
		if len(answer.Data.Buffer) == 0 {
			return nil, fmt.Errorf("NV index %#x ends after %d of %d bytes", index, len(data), size)
		}
		data = append(data, answer.Data.Buffer...)
	}
	return data, nil
}

func (t tpmIndices) Write(index uint32, data []byte) error {
	named, size, err := t.public(index)
	if errors.Is(err, tpm2.TPMRCHandle) {
		if err := t.define(index, len(data)); err != nil {
			return err
		}
		named, size, err = t.public(index)
	}
	if err != nil {
		return fmt.Errorf("cannot look at NV index %#x: %w", index, err)
	}
	if size != len(data) {
		return fmt.Errorf("NV index %#x has %d bytes, not %d", index, size, len(data))
	}
	for offset := 0; offset < len(data); offset += nvChunk {
		part := data[offset:min(offset+nvChunk, len(data))]
		_, err := tpm2.NVWrite{
			AuthHandle: ownerAuth(), NVIndex: named,
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: part}, Offset: uint16(offset),
		}.Execute(t)
		if err != nil {
			return fmt.Errorf("cannot write NV index %#x: %w", index, err)
		}
		if named, _, err = t.public(index); err != nil { // the first write changes the name: TPMA_NV_WRITTEN
			return err
		}
	}
	return nil
}

func (t tpmIndices) define(index uint32, size int) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: ownerAuth(),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(size),
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true},
		}),
	}.Execute(t)
	if err != nil {
		return fmt.Errorf("cannot make NV index %#x: %w", index, err)
	}
	return nil
}

func ownerAuth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}
