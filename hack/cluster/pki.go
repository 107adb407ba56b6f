package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"sigs.k8s.io/yaml"
)

// An authority signs the certificates of one run of the node; a new run has a
// new one.
type authority struct {
	layout layout
	cert   *x509.Certificate
	key    crypto.Signer
	pem    []byte
}

// identities are who speaks to the API server; their groups are Kubernetes' own.
var identities = []struct{ file, user, group string }{
	{"admin", "admin", "system:masters"},
	{"controller-manager", "system:kube-controller-manager", ""},
	{"scheduler", "system:kube-scheduler", ""},
	{"kubelet", "system:node:" + nodeName, "system:nodes"},
	{"proxy", "system:kube-proxy", ""},
}

// issueAll writes the authority, all certificates, the kubeconfigs and the key
// that signs service account tokens.
func issueAll(l layout) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	a := &authority{layout: l, key: key}
	template := certificate(pkix.Name{CommonName: "aisle test cluster"})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature, nil
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	if a.pem, err = a.write("ca.crt", "CERTIFICATE", der); err != nil {
		return err
	}
	if _, err := a.writeKey("ca.key", key); err != nil {
		return err
	}
	node := []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(nodeIP)}
	if _, _, err := a.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}, append(node, net.ParseIP(apiIP)),
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"); err != nil {
		return err
	}
	if _, _, err := a.issue("kubelet-server", pkix.Name{CommonName: nodeName}, node, nodeName, "localhost"); err != nil {
		return err
	}
	for _, id := range identities {
		if err := a.kubeconfig(id.file, id.user, id.group); err != nil {
			return err
		}
	}
	tokens, err := rsa.GenerateKey(rand.Reader, 2048) // some verifiers know RS256 alone
	if err != nil {
		return err
	}
	if _, err := a.writeKey("sa.key", tokens); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(tokens.Public())
	if err != nil {
		return err
	}
	_, err = a.write("sa.pub", "PUBLIC KEY", public)
	return err
}

func certificate(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // the reader never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (a *authority) issue(file string, subject pkix.Name, ips []net.IP, names ...string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate(subject)
	template.IPAddresses, template.DNSNames = ips, names
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", file, err)
	}
	if cert, err = a.write(file+".crt", "CERTIFICATE", der); err != nil {
		return nil, nil, err
	}
	key, err = a.writeKey(file+".key", k)
	return cert, key, err
}

func (a *authority) kubeconfig(file, user, group string) error {
	subject := pkix.Name{CommonName: user}
	if group != "" {
		subject.Organization = []string{group}
	}
	cert, key, err := a.issue(file, subject, nil)
	if err != nil {
		return err
	}
	type object = map[string]any
	text, err := yaml.Marshal(object{ // a []byte becomes base64, as wanted
		"apiVersion": "v1", "kind": "Config", "current-context": "aisle",
		"clusters": []object{{"name": "aisle", "cluster": object{"server": "https://" + nodeIP + ":6443", "certificate-authority-data": a.pem}}},
		"users":    []object{{"name": user, "user": object{"client-certificate-data": cert, "client-key-data": key}}},
		"contexts": []object{{"name": "aisle", "context": object{"cluster": "aisle", "user": user}}},
	})
	if err != nil {
		return err
	}
	return writeFile(a.layout.pki(file+".kubeconfig"), text, 0o600)
}

func (a *authority) writeKey(file string, key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return a.write(file, "PRIVATE KEY", der)
}

func (a *authority) write(file, kind string, der []byte) ([]byte, error) {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return text, writeFile(a.layout.pki(file), text, 0o600)
}
