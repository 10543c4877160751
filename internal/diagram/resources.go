package diagram

import (
	"strings"

	"lablink/internal/tffiles"
)

// Resource types of Terraform, by what they are to us.
var (
	machines      = []string{"aws_instance", "aws_autoscaling_group", "google_compute_instance", "azurerm_linux_virtual_machine", "terraform_data"}
	domains       = []string{"aws_route53_zone", "aws_route53_record"}
	certificates  = []string{"aws_acm_certificate", "aws_acm_certificate_validation"}
	balancers     = []string{"aws_lb", "aws_alb", "aws_elb", "aws_lb_listener", "aws_lb_target_group"}
	addresses     = []string{"aws_eip"}
	databases     = []string{"aws_db_instance", "aws_rds_cluster"}
	disks         = []string{"aws_ebs_volume", "aws_efs_file_system"}
	rules         = []string{"aws_security_group"}
	rights        = []string{"aws_iam_role", "aws_iam_role_policy", "aws_iam_role_policy_attachment", "aws_iam_policy", "aws_iam_instance_profile"}
	keys          = []string{"aws_key_pair"}
	states        = []string{"aws_s3_bucket", "aws_dynamodb_table"}
	logGroups     = []string{"aws_cloudwatch_log_group"}
	subscriptions = []string{"aws_cloudwatch_log_subscription_filter"}
	functions     = []string{"aws_lambda_function"}
	queues        = []string{"aws_sqs_queue"}
)

// listed are resources as the lines of a box.
func listed(resources []tffiles.Resource) []string {
	var lines []string
	for _, r := range resources {
		line := r.Address()
		if when := strings.ReplaceAll(r.When(), "`", ""); when != "always" {
			line += ", " + when
		}
		lines = append(lines, line)
	}
	return lines
}

// commonIf is the condition under which the resources are there, if it is the same
// for all.
func commonIf(resources []tffiles.Resource) string {
	if len(resources) == 0 {
		return ""
	}
	for _, r := range resources[1:] {
		if r.If != resources[0].If {
			return ""
		}
	}
	return resources[0].If
}

// named are the addresses of resources alone.
func named(resources []tffiles.Resource) []string {
	var lines []string
	for _, r := range resources {
		lines = append(lines, r.Address())
	}
	return lines
}

// cloudLogs is the way of the logs through CloudWatch. It is whole if nothing of it
// is missing.
func (c *content) cloudLogs() (groups, filters, processors []tffiles.Resource, whole bool) {
	groups, filters, processors = c.VMs.Find(logGroups...), c.VMs.Find(subscriptions...), c.Allocator.Find(functions...)
	return groups, filters, processors, len(groups) > 0 && len(filters) > 0 && len(processors) > 0
}

// machine describes what a folder makes machines of.
func machine(f *tffiles.Folder) string {
	if found := f.Find(machines...); len(found) > 0 {
		return listed(found[:1])[0]
	}
	return "no machine in " + f.Name
}
