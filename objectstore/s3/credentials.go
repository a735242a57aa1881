package s3

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Credentials say where the keys come from: the first that is set of the keys themselves, the files, and the environment as
// Amazon's own tools use it. That is AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY with AWS_SESSION_TOKEN, then
// ~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE), then the identity of the pod (web identity token), the
// container or the machine (instance metadata, unless AWS_EC2_METADATA_DISABLED is true). Without any, requests are not
// signed.
type Credentials struct {
	AccessKey, SecretKey, SessionToken string
	// AccessKeyFile and SecretKeyFile hold a key each, and are read anew every minute: so keys can be replaced. Blanks and line
	// ends around a key do not count.
	AccessKeyFile, SecretKeyFile string
}

// metadataTimeout bounds a request for a pod's or machine's credentials.
const metadataTimeout = 10 * time.Second

func (c Credentials) provider(transport *http.Transport) (*credentials.Credentials, error) {
	if (c.AccessKey == "") != (c.SecretKey == "") || (c.AccessKeyFile == "") != (c.SecretKeyFile == "") {
		return nil, errors.New("an access key needs its secret key, and the other way round")
	}
	if c.AccessKey != "" {
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken), nil
	}
	if c.AccessKeyFile != "" {
		files := &keyFiles{accessKeyFile: c.AccessKeyFile, secretKeyFile: c.SecretKeyFile}
		if _, err := files.Retrieve(); err != nil { // a wrong path should stop the start
			return nil, err
		}
		return credentials.New(files), nil
	}
	chain := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	if !strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		chain = append(chain, &credentials.IAM{Client: &http.Client{Transport: transport, Timeout: metadataTimeout}})
	}
	return credentials.NewChainCredentials(chain), nil
}

const (
	keyFilesEvery   = time.Minute
	maxKeyFileBytes = 4 << 10
)

// keyFiles reads keys from files. Package credentials calls it under its own lock.
type keyFiles struct {
	accessKeyFile, secretKeyFile string
	credentials.Expiry
}

func (f *keyFiles) Retrieve() (credentials.Value, error) {
	access, err := readKey(f.accessKeyFile)
	if err != nil {
		return credentials.Value{}, err
	}
	secret, err := readKey(f.secretKeyFile)
	if err != nil {
		return credentials.Value{}, err
	}
	f.SetExpiration(time.Now().Add(keyFilesEvery), time.Nanosecond)
	return credentials.Value{AccessKeyID: access, SecretAccessKey: secret, SignerType: credentials.SignatureV4}, nil
}

func (f *keyFiles) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return f.Retrieve()
}

func readKey(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("key file: %w", err)
	}
	if info.Size() > maxKeyFileBytes {
		return "", fmt.Errorf("key file %s has %d bytes, more than a key has", name, info.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("key file: %w", err)
	}
	key := strings.TrimSpace(string(data))
	if key == "" {
		return "", fmt.Errorf("key file %s is empty", name)
	}
	return key, nil
}
