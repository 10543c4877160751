# The log processor, to which CloudWatch delivers what the VMs write. Their log
# group and its subscription are made with the VMs, by the allocator, which gets
# the function's ARN for that.

resource "aws_lambda_function" "log_processor" {
  function_name = "lablink_log_processor_${local.env}"
  description   = "Posts what LabLink's VMs write to CloudWatch Logs to the allocator"
  role          = aws_iam_role.log_processor.arn

  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [endswith(var.log_processor, "-arm64.zip") ? "arm64" : "x86_64"]
  filename         = var.log_processor
  source_code_hash = filebase64sha256(var.log_processor)
  memory_size      = 256
  timeout          = 60

  environment {
    variables = {
      API_ENDPOINT = "${local.public_url}/api/vm-logs"
      API_TOKEN    = local.processor_token
    }
  }

  # What could not be delivered in three tries.
  dead_letter_config {
    target_arn = aws_sqs_queue.undelivered.arn
  }

  tags = merge(local.tags, { Name = "lablink_log_processor_${local.env}" })

  # Lambda would make a log group of its own, which keeps everything for ever, and
  # it refuses a queue to which the role may not send.
  depends_on = [aws_cloudwatch_log_group.log_processor, aws_iam_role_policy.log_processor]
}

resource "aws_cloudwatch_log_group" "log_processor" {
  name              = "/aws/lambda/lablink_log_processor_${local.env}"
  retention_in_days = 14
  tags              = merge(local.tags, { Name = "/aws/lambda/lablink_log_processor_${local.env}" })
}

# The group need not exist yet.
resource "aws_lambda_permission" "cloudwatch" {
  statement_id   = "AllowExecutionFromCloudWatch"
  action         = "lambda:InvokeFunction"
  function_name  = aws_lambda_function.log_processor.function_name
  principal      = "logs.amazonaws.com"
  source_account = data.aws_caller_identity.current.account_id
  source_arn = join(":", [
    "arn", data.aws_partition.current.partition, "logs", local.region, data.aws_caller_identity.current.account_id, "log-group", local.log_group, "*",
  ])
}

resource "aws_sqs_queue" "undelivered" {
  name                      = "lablink_log_processor_${local.env}_undelivered"
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
  tags                      = merge(local.tags, { Name = "lablink_log_processor_${local.env}_undelivered" })
}

resource "aws_iam_role" "log_processor" {
  name = "lablink_lambda_exec_${local.env}"
  tags = merge(local.tags, { Name = "lablink_lambda_exec_${local.env}" })

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

# Less than Amazon's AWSLambdaBasicExecutionRole, which may write to every log group.
resource "aws_iam_role_policy" "log_processor" {
  name = "lablink_lambda_exec_${local.env}"
  role = aws_iam_role.log_processor.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.log_processor.arn}:*"
      },
      {
        Effect   = "Allow"
        Action   = "sqs:SendMessage"
        Resource = aws_sqs_queue.undelivered.arn
      },
    ]
  })
}
