package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/secret"
)

// Sealed is a sealed key: public, and worth nothing without the TPM that made it.
type Sealed struct {
	// Public is a TPMT_PUBLIC and Private a TPM2B_PRIVATE without its size.
	Public, Private []byte
	// Ticket is the digest of the TPMT_TK_CREATION.
	Ticket []byte
	// Values are the PCRs at the time of sealing. They serve the message when it does not open; nothing trusts them.
	Values [][]byte
}

// Seal makes a sealed object that holds the key. label says what the key is for; only the same label unseals.
func (d *Device) Seal(policy *config.TPM, key *secret.Buffer, label string) (*Sealed, error) {
	values, err := d.ReadPCRs(policy.Bank, policy.PCRs)
	if err != nil {
		return nil, err
	}
	parent, err := d.makePrimary()
	if err != nil {
		return nil, err
	}
	defer d.flush(parent.handle)
	response, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: parent.handle, Name: parent.name, Auth: parent.session()},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key.Bytes()}),
		}},
		InPublic:    tpm2.New2B(template(policyDigest(policy, values))),
		OutsideInfo: tpm2.TPM2BData{Buffer: []byte(label)},
		CreationPCR: selection(policy.Bank, policy.PCRs),
	}.Execute(d.connection)
	if err != nil {
		return nil, fault.Wrap(err, "", "the TPM does not seal the key")
	}
	// The response is authenticated, so this holds the TPM's own view of its PCRs against what was read.
	if !bytes.Equal(response.CreationData.Bytes(), creationData(policy, values, parent, label)) {
		return nil, fault.Refuse("something stands between the machine and its TPM, or the PCRs changed meanwhile: start again",
			"the TPM sealed the key under other circumstances than were asked for")
	}
	return &Sealed{
		Public:  response.OutPublic.Bytes(),
		Private: response.OutPrivate.Buffer,
		Ticket:  response.CreationTicket.Digest.Buffer,
		Values:  values,
	}, nil
}

// Unseal returns the key of size bytes, or says why the TPM does not give it. Of what is stored nothing is
// interpreted here: all that can be known of it is computed and must be equal, the rest goes to the TPM.
func (d *Device) Unseal(policy *config.TPM, sealed *Sealed, size int, label string) (*secret.Buffer, error) {
	values, err := d.ReadPCRs(policy.Bank, policy.PCRs)
	if err != nil {
		return nil, err
	}
	public, err := expectedPublic(policy, values, sealed)
	if err != nil {
		return nil, err
	}
	parent, err := d.makePrimary()
	if err != nil {
		return nil, err
	}
	defer d.flush(parent.handle)
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: parent.handle, Name: parent.name, Auth: parent.session()},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: sealed.Private},
		InPublic:     tpm2.New2B(*public),
	}.Execute(d.connection)
	if err != nil {
		return nil, fault.Wrap(err, "the disk was used with another TPM, or the TPM was cleared: start the machine with the TPM state of the first boot",
			"this TPM did not make the sealed key")
	}
	defer d.flush(loaded.ObjectHandle)
	if err := d.checkOrigin(policy, values, sealed, parent, loaded, label); err != nil {
		return nil, err
	}
	callback := func(t transport.TPM, handle tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyPCR{PolicySession: handle, Pcrs: selection(policy.Bank, policy.PCRs)}.Execute(t)
		return err
	}
	session := tpm2.Policy(tpm2.TPMAlgSHA256, 16, callback, tpm2.Salted(parent.handle, parent.public), tpm2.AESEncryption(128, tpm2.EncryptOut))
	response, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: session}}.Execute(d.connection)
	if err != nil {
		return nil, fault.Wrap(err, "", "the TPM refuses to unseal the key")
	}
	if len(response.OutData.Buffer) != size {
		secret.Wipe(response.OutData.Buffer)
		return nil, fault.Refuse("", "the sealed key has %d bytes, and the configuration says %d", len(response.OutData.Buffer), size)
	}
	return secret.Take(response.OutData.Buffer)
}

// template is the public area of a sealed object: no password opens it, only the policy, and it never leaves its TPM.
func template(policy []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:             tpm2.TPMAlgKeyedHash,
		NameAlg:          tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
		AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
}

// pcrDigest is the SHA-256 over the registers of the policy.
func pcrDigest(values [][]byte) []byte {
	sum := sha256.Sum256(bytes.Join(values, nil))
	return sum[:]
}

// policyDigest is what TPM2_PolicyPCR makes of a fresh session (part 3, section 23.7): H(zeros || command
// code || selection || digest of the registers).
func policyDigest(policy *config.TPM, values [][]byte) []byte {
	hash := sha256.New()
	hash.Write(make([]byte, sha256.Size))
	hash.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMCCPolicyPCR)))
	hash.Write(tpm2.Marshal(selection(policy.Bank, policy.PCRs)))
	hash.Write(pcrDigest(values))
	return hash.Sum(nil)
}

// creationData is the TPMS_CREATION_DATA of an object that is made under these registers, at locality 0 (which
// is the kernel's), below this parent.
func creationData(policy *config.TPM, values [][]byte, parent *primary, label string) []byte {
	qualified := sha256.New() // part 1, section 26.5: H(name of the hierarchy || name)
	qualified.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHOwner)))
	qualified.Write(parent.name.Buffer)
	return tpm2.Marshal(tpm2.TPMSCreationData{
		PCRSelect:           selection(policy.Bank, policy.PCRs),
		PCRDigest:           tpm2.TPM2BDigest{Buffer: pcrDigest(values)},
		Locality:            tpm2.TPMALocality{TPMLocZero: true},
		ParentNameAlg:       tpm2.TPMAlgSHA256,
		ParentName:          parent.name,
		ParentQualifiedName: tpm2.TPM2BName{Buffer: qualified.Sum(binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256)))},
		OutsideInfo:         tpm2.TPM2BData{Buffer: []byte(label)},
	})
}

// expectedPublic is the public area that the sealed object must have: of what is stored only its unique
// digest, at the end, is taken over.
func expectedPublic(policy *config.TPM, values [][]byte, sealed *Sealed) (*tpm2.TPMTPublic, error) {
	public := template(policyDigest(policy, values))
	if len(sealed.Public) > sha256.Size {
		unique := sealed.Public[len(sealed.Public)-sha256.Size:]
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: unique})
	}
	if bytes.Equal(tpm2.Marshal(public), sealed.Public) {
		return &public, nil
	}
	if changes := changed(policy, values, sealed.Values); changes != "" {
		return nil, fault.Refuse("if the change was meant, the data must be moved with the old image; else start the old image and firmware again. The data is untouched",
			"the TPM refuses the key: the image or the firmware is not the one that the key was sealed to (%s)", changes)
	}
	return nil, fault.Refuse("restore the header from a copy; the data is untouched",
		"the sealed key is damaged, or was made for other PCRs than the configuration lists")
}

// changed lists the registers that differ from those at the time of sealing.
func changed(policy *config.TPM, now, then [][]byte) string {
	if len(then) != len(now) {
		return ""
	}
	var parts []string
	for index, pcr := range policy.PCRs {
		if !bytes.Equal(now[index], then[index]) && len(then[index]) == len(now[index]) {
			parts = append(parts, fmt.Sprintf("PCR %d was %x, is %x", pcr, then[index], now[index]))
		}
	}
	return strings.Join(parts, "; ")
}

// checkOrigin has the TPM check the ticket that it gave when it made the object: that happened under the
// registers of now, with the label.
func (d *Device) checkOrigin(policy *config.TPM, values [][]byte, sealed *Sealed, parent *primary, loaded *tpm2.LoadResponse, label string) error {
	created := sha256.Sum256(creationData(policy, values, parent, label))
	_, err := tpm2.CertifyCreation{
		SignHandle:     tpm2.AuthHandle{Handle: tpm2.TPMRHNull, Auth: parent.session()},
		ObjectHandle:   tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name},
		CreationHash:   tpm2.TPM2BDigest{Buffer: created[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		CreationTicket: tpm2.TPMTTKCreation{Tag: tpm2.TPMSTCreation, Hierarchy: tpm2.TPMRHOwner, Digest: tpm2.TPM2BDigest{Buffer: sealed.Ticket}},
	}.Execute(d.connection)
	if err != nil {
		return fault.Wrap(err, "somebody put this key onto the disk: do not use the disk; restore its header from a copy, or replace it",
			"the sealed key was not made by this image on this TPM")
	}
	return nil
}
