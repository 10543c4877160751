package testkit

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// MotoRegion is where the tests' machines are.
const MotoRegion = "us-west-2"

// MotoServer is an account of its own in an emulated AWS.
type MotoServer struct {
	URL     string
	Account string // 12 digits

	key, secret string
}

// motoProcess is the server of this test process. All tests share it: it starts
// in two seconds. Nobody stops it, because nobody could after a panic: it ends
// when its standard input does, with this process.
type motoProcess struct {
	url string
	dir string // which it removes when it ends
	log *os.File
	cmd *exec.Cmd
	in  io.Closer // which would be closed if nothing held it
}

var startMoto = sync.OnceValues(launchMoto)

func launchMoto() (p motoProcess, err error) {
	top, err := root()
	if err != nil {
		return p, err
	}
	venv, files := filepath.Join(top, ".tools", "moto"), filepath.Join(top, "internal", "testkit", "moto")
	want, err := os.ReadFile(filepath.Join(files, "requirements.txt"))
	if err != nil {
		return p, err
	}
	if got, err := os.ReadFile(filepath.Join(venv, "requirements.txt")); err != nil || !bytes.Equal(got, want) {
		return p, fmt.Errorf("moto, an emulator of AWS, is not here or is another version, run make deps: %w", err)
	}
	if p.dir, err = os.MkdirTemp("", "lablink-moto-"); err != nil {
		return p, err
	}
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		return p, err
	}
	p.cmd = exec.CommandContext(context.Background(), filepath.Join(venv, "bin", "python"), filepath.Join(files, "launch.py"), p.dir)
	p.cmd.Env = append(os.Environ(),
		"MOTO_AMIS_PATH="+filepath.Join(files, "amis.json"),
		"MOTO_ENABLE_AMI_VALIDATION=1", "MOTO_ENABLE_KEYPAIR_VALIDATION=1", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION=1",
	)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for the tests, which end it in order
	p.cmd.Stderr = p.log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return p, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return p, err
	}
	if err := p.cmd.Start(); err != nil {
		return p, err
	}
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return p, fmt.Errorf("moto did not start: %w\n%s", err, p.tail())
	}
	p.url = "http://127.0.0.1:" + strings.TrimSpace(port)
	return p, nil
}

// tail returns the end of what the server printed: its requests and its crashes.
func (p motoProcess) tail() string {
	const enough = 8 << 10
	var offset int64
	if fi, err := p.log.Stat(); err == nil {
		offset = max(0, fi.Size()-enough)
	}
	text, err := io.ReadAll(io.NewSectionReader(p.log, offset, enough))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

var motoAccounts atomic.Int64

// Moto returns a new, empty account in an emulated AWS. Images of Canonical and of
// Amazon are in moto/amis.json. Without moto the test fails.
func Moto(t testing.TB) *MotoServer {
	t.Helper()
	p, err := startMoto()
	if err != nil {
		t.Fatalf("testkit.Moto: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of moto's log, of all tests:\n%s", p.tail())
		}
	})
	m := &MotoServer{URL: p.url, Account: fmt.Sprintf("%012d", 200000000000+motoAccounts.Add(1)), key: "first", secret: "first"}
	// moto knows the account by the access key, and makes keys for any role of any account.
	role, err := sts.NewFromConfig(m.Config(t)).AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn:         aws.String("arn:aws:iam::" + m.Account + ":role/test"),
		RoleSessionName: aws.String("test"),
	})
	if err != nil {
		t.Fatalf("testkit.Moto: %v\n%s", err, p.tail())
	}
	m.key, m.secret = aws.ToString(role.Credentials.AccessKeyId), aws.ToString(role.Credentials.SecretAccessKey)
	return m
}

// Config returns a configuration for clients of this account.
func (m *MotoServer) Config(t testing.TB) aws.Config {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return aws.Config{
		Region:       MotoRegion,
		BaseEndpoint: aws.String(m.URL),
		Credentials:  credentials.NewStaticCredentialsProvider(m.key, m.secret, ""),
		HTTPClient:   client,
	}
}

// Environ returns what a program needs in its environment to use this account.
func (m *MotoServer) Environ() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + m.URL,
		"AWS_REGION=" + MotoRegion,
		"AWS_ACCESS_KEY_ID=" + m.key,
		"AWS_SECRET_ACCESS_KEY=" + m.secret,
	}
}

// LogProcessor makes a Lambda function, and returns its ARN: moto takes no other
// for a subscription filter. Its events are posted to a URL, unless that is "".
func (m *MotoServer) LogProcessor(t testing.TB, url string) string {
	t.Helper()
	role, err := iam.NewFromConfig(m.Config(t)).CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("log-processor"), AssumeRolePolicyDocument: aws.String("{}"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var code bytes.Buffer
	if err := zip.NewWriter(&code).Close(); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"FunctionName": "log-processor", "Runtime": "provided.al2023", "Handler": "bootstrap", "Role": role.Role.Arn,
		"Code": map[string]any{"ZipFile": code.Bytes()}, "Environment": map[string]any{"Variables": map[string]string{"INVOKE_URL": url}}, // see launch.py
	})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.URL+"/2015-03-31/functions", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	// A whole SDK for this one request would be too much. moto does not look at the signature, only at what it says of itself.
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+m.key+"/20250101/"+MotoRegion+"/lambda/aws4_request, SignedHeaders=host, Signature=none")
	resp, err := m.Config(t).HTTPClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var made struct {
		ARN string `json:"FunctionArn"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || made.ARN == "" {
		t.Fatalf("moto made no Lambda function: %s, %v", resp.Status, err)
	}
	return made.ARN
}
