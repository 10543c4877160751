package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"lablink/internal/testkit"
)

// From PutLogEvents, as Docker calls it on a VM, through an emulated CloudWatch and
// its subscription filter to the log processor, into the VM's log and its page.
func TestCloudWatch(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1", "vm-2")
	f := start(t, a.URL)
	lambda := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		event, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f.wantDelivered(event)
	}))
	t.Cleanup(lambda.Close)

	moto := testkit.Moto(t)
	logs := cloudwatchlogs.NewFromConfig(moto.Config(t))
	group := aws.String("lablink-cloud-init-test")
	if _, err := logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: group}); err != nil {
		t.Fatal(err)
	}
	if _, err := logs.PutSubscriptionFilter(t.Context(), &cloudwatchlogs.PutSubscriptionFilterInput{
		LogGroupName: group, FilterName: aws.String("lablink_lambda_subscription_test"), FilterPattern: aws.String(""),
		DestinationArn: aws.String(moto.LogProcessor(t, lambda.URL)),
	}); err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour).Truncate(time.Millisecond) // CloudWatch takes nothing that is two weeks old
	want := map[string][]string{}
	for _, vm := range []string{"vm-1", "vm-2"} {
		if _, err := logs.CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: group, LogStreamName: aws.String(vm)}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		for _, vm := range []string{"vm-1", "vm-2"} {
			var batch []types.InputLogEvent
			for i := range 40 {
				text := fmt.Sprintf("%s wrote line %d of post %d: ünïcode", vm, i, n)
				want[vm] = append(want[vm], text)
				batch = append(batch, types.InputLogEvent{Message: aws.String(text), Timestamp: aws.Int64(began.UnixMilli() + int64(40*n+i))})
			}
			if _, err := logs.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{
				LogGroupName: group, LogStreamName: aws.String(vm), LogEvents: batch,
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for vm, lines := range want {
		wantLog(t, a, vm, lines...)
		page := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/admin/logs/" + vm, Admin: true})
		if page.Status != http.StatusOK || !strings.Contains(page.Body, lines[len(lines)-1]) {
			t.Errorf("the page of %s's log answers %d without the last line", vm, page.Status)
		}
		if got := logOf(t, a, vm); len(got) == 200 && (!got[0].At.Equal(began) || !got[199].At.Equal(began.Add(199*time.Millisecond))) {
			t.Errorf("the lines of %s are of %v to %v", vm, got[0].At, got[199].At)
		}
	}
}
