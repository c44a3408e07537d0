"""Intel's root of trust for quotes, as data.

The public key of the "Intel SGX Root CA", which signs every PCK, TCB and CRL certificate chain. It is the key of the
certificate at https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.pem (serial
22650cd65a9d3489f383b49552bf501b392706ac, valid until 2049-12-31), and the constant ``INTEL_ROOT_PUB_KEY`` of Intel's
own Quote Verification Library (SGXDataCenterAttestationPrimitives, QuoteVerification).
"""

from __future__ import annotations

# An uncompressed point of NIST P-256: 0x04, x, y.
INTEL_SGX_ROOT_CA_KEY = bytes.fromhex(
    "04"
    "0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5"
    "67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"
)
# Of the quoting enclave for trust domains: "TD_QE" at api.trustedservices.intel.com/tdx/certification/v4/qe/identity.
INTEL_TD_QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
INTEL_TD_QE_PRODUCT = 2
ROOT_NAME = "Intel SGX Root CA"
PCK_LEAF_NAME = "Intel SGX PCK Certificate"
PCK_CA_NAMES = ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA")
TCB_SIGNING_NAME = "Intel SGX TCB Signing"
